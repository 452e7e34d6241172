# The images, for amd64 and arm64:   docker buildx bake -f deploy/docker-bake.hcl
# One of them, for this machine:     docker buildx bake -f deploy/docker-bake.hcl device --set '*.platform=' --load

variable "REGISTRY" { default = "" }
variable "TAG" { default = "latest" }
variable "PIP_EXTRA_INDEX_URL" { default = "" }

group "default" {
  targets = ["server", "device", "loadtest"]
}

target "common" {
  context   = "."
  platforms = ["linux/amd64", "linux/arm64"]
  labels = {
    "org.opencontainers.image.title"    = "TokenLink"
    "org.opencontainers.image.licenses" = "Apache-2.0"
    "org.opencontainers.image.version"  = TAG
  }
}

target "server" {
  inherits   = ["common"]
  dockerfile = "deploy/Dockerfile.server"
  tags       = ["${REGISTRY}tokenlink-server:${TAG}"]
  args = {
    PIP_EXTRA_INDEX_URL = PIP_EXTRA_INDEX_URL
    TORCH               = "cpu"
  }
}

# Not among the default ones: several gigabytes of CUDA.
target "server-cuda" {
  inherits = ["server"]
  tags     = ["${REGISTRY}tokenlink-server-cuda:${TAG}"]
  args     = { TORCH = "cuda" }
}

target "device" {
  inherits   = ["common"]
  dockerfile = "deploy/Dockerfile.device"
  tags       = ["${REGISTRY}tokenlink-device:${TAG}"]
}

target "loadtest" {
  inherits   = ["common"]
  dockerfile = "deploy/Dockerfile.loadtest"
  tags       = ["${REGISTRY}tokenlink-loadtest:${TAG}"]
}
