"""The Cluster port on a real API server, by the official client's asyncio half.

Objects go in and out as plain dictionaries. Paths are computed from a small table of the kinds that we
touch instead of by discovery: no request at start, no cache file, and a kind that is not in the table is a
mistake that shows in the first test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as api
from kubernetes.aio import config
from kubernetes.aio.client.exceptions import ApiException

from pipewright import errors, fields, names
from pipewright.plan import Manifest, Ref
from pipewright.ports import Secret

FIELD_MANAGER = fields.MANAGER
REQUEST_TIMEOUT_S = 30.0
CONNECTIONS = 64
PAGE = 500
_OVERLOADED = {408, 429, 500, 502, 503, 504}

_CLUSTER_SCOPED = {"Namespace", "Tenant"}
_PLURALS = {
    "ConfigMap": "configmaps",
    "ControllerRevision": "controllerrevisions",
    "Event": "events",
    "Integration": "integrations",
    "Lease": "leases",
    "LimitRange": "limitranges",
    "Model": "models",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "RayJob": "rayjobs",
    "ResourceQuota": "resourcequotas",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "SubjectAccessReview": "subjectaccessreviews",
    "Tenant": "tenants",
    "TokenReview": "tokenreviews",
    "Workflow": "workflows",
    "WorkflowRun": "workflowruns",
}
_CLUSTER_SCOPED |= {"SubjectAccessReview", "TokenReview"}


async def connect(kubeconfig: Path | None) -> api.ApiClient:
    """A client for the cluster that `kubeconfig` names; None: the cluster this process runs in."""
    configuration = api.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(
            config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
        )
    configuration.connection_pool_maxsize = CONNECTIONS
    # a proxy or a password for the API server is the kubeconfig's to name: looked up in the environment and
    # in ~/.netrc they cost a thread for each request
    configuration.client_session_kwargs = {"trust_env": False}
    return api.ApiClient(configuration=configuration)


class KubernetesCluster:
    """`pipewright.ports.Cluster` on an API server."""

    def __init__(self, client: api.ApiClient, *, field_manager: str = FIELD_MANAGER) -> None:
        self._client = client
        self._field_manager = field_manager

    async def get(self, ref: Ref) -> Manifest | None:
        """The object as the API server has it now; a quorum read."""
        try:
            found: Manifest = await self._request("get", _path(ref), what=f"read {ref}")
            return found
        except _NotFound:
            return None

    async def get_all(self, refs: Collection[Ref]) -> Mapping[Ref, Manifest | None]:
        """Each of these objects as `get` has it.

        Several of a kind in a namespace are one list, if we may list and all that lies there fits a page: a
        tenant that fills its namespace fills no memory of ours.
        """
        groups: dict[tuple[str, str, str | None], list[Ref]] = {}
        for ref in refs:
            groups.setdefault((ref.api_version, ref.kind, ref.namespace), []).append(ref)
        found = await asyncio.gather(*(self._some(*place, some) for place, some in groups.items()))
        return {ref: manifest for some in found for ref, manifest in some.items()}

    async def _some(
        self, api_version: str, kind: str, namespace: str | None, refs: Sequence[Ref]
    ) -> Mapping[Ref, Manifest | None]:
        if len(refs) > 1 and (listed := await self._page(api_version, kind, namespace)) is not None:
            return {ref: _named(api_version, kind, listed.get(ref.name)) for ref in refs}
        return dict(zip(refs, await asyncio.gather(*map(self.get, refs)), strict=True))

    async def _page(
        self, api_version: str, kind: str, namespace: str | None
    ) -> Mapping[str, Manifest] | None:
        """By name; None where it is no page, or the role is that of a release that listed nothing."""
        path = _collection(api_version, kind, namespace)
        try:
            page = await self._request("get", path, what=f"list {kind}", limit=PAGE)
        except errors.Forbidden:
            return None
        return (
            None if page["metadata"].get("continue") else {it["metadata"]["name"]: it for it in page["items"]}
        )

    async def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Sequence[Manifest]:
        """All objects of a kind (in a namespace, with these labels), read in pages."""
        path = _collection(api_version, kind, namespace)
        selector = ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))
        found: list[Manifest] = []
        token: str | None = None
        while True:
            asked: dict[str, Any] = {"limit": PAGE, "labelSelector": selector, "continue": token}
            page = await self._request("get", path, what=f"list {kind}", **asked)
            found += [_named(api_version, kind, item) for item in page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                return found

    async def apply(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Server-side apply under our field manager, forced: we own what we name."""
        ref = Ref.of(manifest)
        path = _path(ref) + (f"/{subresource}" if subresource else "")
        try:
            applied: Manifest = await self._request(
                "patch",
                path,
                what=f"apply {ref}",
                body=dict(manifest),
                content_type="application/apply-patch+yaml",
                fieldManager=self._field_manager,
                force="true",
            )
            return applied
        except _NotFound:
            raise errors.Waiting(
                "NotFound", f"{ref}: its namespace or the object itself is not there"
            ) from None

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create the object, and return it; None when one of that name is there: it is left alone."""
        ref = Ref.of(manifest)
        try:
            created: Manifest = await self._request(
                "post",
                _collection(ref.api_version, ref.kind, ref.namespace),
                what=f"create {ref}",
                body=dict(manifest),
                fieldManager=self._field_manager,
            )
        except _AlreadyExists:
            return None
        except _NotFound:
            raise errors.Waiting("NotFound", f"{ref}: its namespace is not there") from None
        return created

    async def review(self, manifest: Manifest) -> Manifest:
        """Ask a question by creating a review object (TokenReview, SubjectAccessReview); its answer."""
        ref_path = _collection(manifest["apiVersion"], manifest["kind"], None)
        answer: Manifest = await self._request(
            "post", ref_path, what=f"ask {manifest['kind']}", body=dict(manifest)
        )
        return answer

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object if it still has this UID; done already counts as done."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        try:
            await self._request(
                "delete", _path(ref), what=f"delete {ref}", body=body, propagationPolicy="Background"
            )
        except _NotFound:
            return
        except errors.Conflict:
            # another object of that name: ours is gone, and this one is not ours to delete
            return

    async def set_finalizers(self, ref: Ref, *, finalizers: Sequence[str], resource_version: str) -> None:
        """Replace the object's finalizers, if it is still at this version."""
        body = {"metadata": {"resourceVersion": resource_version, "finalizers": list(finalizers)}}
        try:
            await self._request(
                "patch",
                _path(ref),
                what=f"set the finalizers of {ref}",
                body=body,
                content_type="application/merge-patch+json",
                fieldManager=self._field_manager,
            )
        except _NotFound:
            return

    async def remove_metadata(
        self, ref: Ref, *, uid: str, labels: Sequence[str], annotations: Sequence[str]
    ) -> None:
        """Remove labels and annotations, whoever set them: an apply removes only what an apply has set."""
        parts = {"labels": dict.fromkeys(labels), "annotations": dict.fromkeys(annotations)}
        body = {"metadata": {"uid": uid, **{part: keys for part, keys in parts.items() if keys}}}
        try:
            await self._request(
                "patch",
                _path(ref),
                what=f"change {ref}",
                body=body,
                content_type="application/merge-patch+json",
                field_manager=self._field_manager,
            )
        except _NotFound:
            return

    async def replace(self, manifest: Manifest) -> Manifest:
        """PUT the object as it is; its resourceVersion makes it a compare-and-swap (leases use this)."""
        ref = Ref.of(manifest)
        try:
            stored: Manifest = await self._request(
                "put", _path(ref), what=f"replace {ref}", body=dict(manifest)
            )
            return stored
        except _NotFound:
            raise errors.Conflict(f"{ref} is gone") from None

    async def _request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Any = None,
        content_type: str = "application/json",
        token: Secret | None = None,
        **query: str | int | None,
    ) -> Any:
        """`token` is somebody else's whom we speak for; without it we are ourselves."""
        try:
            return await self._send(method, path, body, content_type, query, token)
        except ApiException as refused:
            raise _translated(refused, what) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as broken:
            raise errors.Unreachable(
                f"{what}: the API server did not answer ({type(broken).__name__})"
            ) from None
        except json.JSONDecodeError:
            raise errors.Unreachable(f"{what}: the API server's answer was cut short") from None

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        query: Mapping[str, str | int | None],
        token: Secret | None,
    ) -> Any:
        """One request on the client's own session, past its models: they cost more than the request."""
        configuration = self._client.configuration
        headers = {"Accept": "application/json", "Content-Type": content_type}
        for auth in (
            await configuration.auth_settings()
        ).values():  # a token file is read again when it is due
            headers[auth["key"]] = str(auth["value"])
        if token is not None:
            headers = {key: it for key, it in headers.items() if key.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {token.reveal()}"
        asked = urlencode({name: value for name, value in query.items() if value})
        response = await self._client.rest_client.request(
            method.upper(),
            f"{configuration.host}{path}{'?' if asked else ''}{asked}",
            headers=headers,
            body=body,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        content = await response.read()
        if not 200 <= response.status <= 299:
            raise ApiException(status=response.status, body=content.decode(errors="replace"))
        return json.loads(content)


class KubernetesDoor(KubernetesCluster):
    """`pipewright.ports.ClusterDoor`: the API server as a tenant's ServiceAccount finds it."""

    async def token(self, namespace: str, *, audience: str | None = None) -> Secret:
        """A token of the tenant's account for ten minutes, the least that there is. Nothing is stored."""
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{names.TENANT_SERVICE_ACCOUNT}"
        spec = {"expirationSeconds": 600, **({"audiences": [audience]} if audience else {})}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        what = f"ask for a token of ServiceAccount {namespace}/{names.TENANT_SERVICE_ACCOUNT}"
        try:
            answer = await self._request("post", f"{account}/token", what=what, body=body)
        except _NotFound:
            raise errors.Waiting("NotFound", f"{what}: it is not there") from None
        return Secret(answer["status"]["token"])

    async def opens(self, token: Secret, *, own: str, namespace: str) -> bool:
        """Whether the account may list the Secrets of a namespace. First it is asked who asks."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        account = f"system:serviceaccount:{own}:{names.TENANT_SERVICE_ACCOUNT}"
        what = f"list the Secrets of namespace {namespace} as {account}"
        try:
            answer = await self._request("post", path, what=what, body=body, token=token)
            if answer["status"]["userInfo"]["username"] != account:
                raise errors.BackendError(f"{what}: the API server takes us for somebody else")
        except (_NotFound, errors.Forbidden):
            raise errors.BackendError(f"{what}: the API server does not say whom it takes us for") from None
        try:
            secrets = _collection("v1", "Secret", namespace)
            await self._request("get", secrets, what=what, token=token, limit=1)
        except errors.Forbidden as refused:
            if "forbids it" not in refused.message:
                raise  # 401 says nothing of what this account may do
            return False
        return True


def _named(api_version: str, kind: str, item: Manifest | None) -> Any:
    """An item of a list with what it is: that does not stand in there."""
    return None if item is None else {"apiVersion": api_version, "kind": kind, **item}


class _NotFound(Exception):
    """404, of the object or of what it lies in."""


class _AlreadyExists(Exception):
    """409 AlreadyExists."""


def _translated(refused: ApiException, what: str) -> Exception:
    status = _status(refused)
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))[:500]
    match refused.status:
        case 404:
            return _NotFound()
        case 409 if reason == "AlreadyExists":
            return _AlreadyExists()
        case 409:
            return errors.Conflict(f"{what}: the object changed meanwhile")
        case 401:
            return errors.Forbidden(f"{what}: the API server does not accept our token")
        case 403 if "being terminated" in message:
            return errors.Waiting("Terminating", f"{what}: the namespace is being deleted")
        case 403 if "exceeded quota" in message:
            return errors.Stalled("QuotaExceeded", f"{what}: {message}")
        case 403:
            return errors.Forbidden(f"{what}: the API server forbids it: {message}")
        case 422 if "metadata.uid" in message:
            # we named the object that we mean by its UID, and another one has its name now
            return errors.Conflict(f"{what}: another object has this name now")
        case 400 | 422:
            return errors.Stalled("Refused", f"{what}: the API server refused the object: {message}")
        case code if code in _OVERLOADED:
            return errors.Unreachable(f"{what}: the API server answered {code}")
        case code:
            return errors.BackendError(f"{what}: the API server answered {code}")


def _status(refused: ApiException) -> Mapping[str, Any]:
    """The `Status` object of an error answer. Its message names fields, and for a Secret no values."""
    try:
        status = json.loads(refused.body or "{}")
    except (TypeError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _collection(api_version: str, kind: str, namespace: str | None) -> str:
    prefix = "/apis" if "/" in api_version else "/api"
    place = "" if kind in _CLUSTER_SCOPED or not namespace else f"/namespaces/{namespace}"
    return f"{prefix}/{api_version}{place}/{_PLURALS[kind]}"


def _path(ref: Ref) -> str:
    return f"{_collection(ref.api_version, ref.kind, ref.namespace)}/{ref.name}"
