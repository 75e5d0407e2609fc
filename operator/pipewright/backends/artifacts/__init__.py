"""The artifact store: a folder, or a bucket, whose library is imported where there is one (`bucket`)."""

from pipewright.backends.artifacts.folder import FileArtifacts

__all__ = ["FileArtifacts"]
