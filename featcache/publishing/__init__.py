"""Run → a folder that can be shared: heads, model card, ONNX; and folders of others on the Hugging Face hub."""

from featcache.publishing.publish_run import publish

__all__ = ["publish"]
