"""The secret ports on Vault (or OpenBao: the API is the one they share), by hvac.

hvac is synchronous, so its calls run in threads. One token is shared by all calls of the process: got by
Kubernetes auth with this process's own ServiceAccount token, and replaced by another login shortly before it
ends or when Vault refuses it; or read from a file, and renewed shortly before it ends. One at a time.
"""

from pipewright.backends.vault.door import VaultDoor
from pipewright.backends.vault.grants import VaultGrants
from pipewright.backends.vault.keys import VaultDataKeys
from pipewright.backends.vault.secrets import VaultSecretStore
from pipewright.backends.vault.session import VaultSession

__all__ = ["VaultDataKeys", "VaultDoor", "VaultGrants", "VaultSecretStore", "VaultSession"]
