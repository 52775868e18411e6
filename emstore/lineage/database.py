"""The tables of the lineage cache, and opening the file they are in."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

FORMAT: Final = 3
"""Raised when the tables change; a cache of another format is made anew."""
_TABLES: Final = """
create table store (n integer primary key, id text not null unique, url text not null, seen text not null);
create table node (n integer primary key, id text not null unique);
create table version (
    n integer primary key, created text not null, kind text not null, modality text, activity text not null,
    maker text not null, volume integer not null, voxel integer not null, header integer not null, setup integer not null,
    sources integer not null, tools integer not null, step text not null, own text not null
);
create table part (n integer primary key autoincrement, digest blob not null unique, body blob not null);
create table place (
    store integer not null, dataset text not null, array text not null, number integer not null,
    n integer not null, stamp text not null, primary key (store, dataset, array, number)
) without rowid;
create index place_of on place (n);
create table edge (
    child integer not null, parent integer not null, role text not null, ref text not null, store text not null,
    primary key (child, parent, role, ref)
) without rowid;
create index edge_down on edge (parent, child);
"""


class Unusable(Exception):
    """No database, or one of another emstore: nothing in it is missed."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the cache's file, making its tables where there are none.

    Raises
    ------
    Unusable
        Something else is there.
    """
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        if _format(db) != FORMAT:
            db.execute("begin immediate")
            if _format(db) != FORMAT:  # another process may have been first
                if db.execute("select 1 from sqlite_master").fetchone():
                    raise Unusable("it is another emstore's")
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"pragma user_version = {FORMAT}")
            db.execute("commit")
    except sqlite3.OperationalError:
        db.close()
        raise
    except (sqlite3.DatabaseError, Unusable) as error:
        db.close()
        raise Unusable(str(error)) from error
    return db


def renew(path: Path) -> sqlite3.Connection:
    """Make the cache's file anew, keeping only where the stores are: nothing else tells, and the rest is read from them again."""
    stores: list[tuple[str, str, str]] = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
        stores = old.execute("select id, url, seen from store order by n").fetchall()
    path.unlink(missing_ok=True)
    db = connect(path)
    db.executemany("insert or ignore into store (id, url, seen) values (?, ?, ?)", stores)
    return db


def _format(db: sqlite3.Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])
