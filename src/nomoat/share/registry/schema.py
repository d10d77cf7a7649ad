"""The tables. SQLite and PostgreSQL alike; times are Unix milliseconds, git ids 40 hex digits."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "SCHEMA_VERSION",
    "access_requests",
    "blobs",
    "commits",
    "discussions",
    "events",
    "likes",
    "lineage",
    "members",
    "metadata",
    "moves",
    "properties",
    "refs",
    "repo_blobs",
    "reports",
    "repos",
    "samples",
    "sent_blobs",
    "session_tokens",
    "signatures",
    "tokens",
    "tombstones",
    "tree_entries",
    "users",
    "xet_chunks",
    "xet_files",
    "xet_segments",
    "xet_sent",
    "xet_xorbs",
]

SCHEMA_VERSION = 2
metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")
_Time = BigInteger


def _reference(target: str, **more: object) -> ForeignKey:
    return ForeignKey(target, ondelete="CASCADE", **more)  # type: ignore[arg-type]


properties = Table(
    "properties", metadata,
    Column("name", String(64), primary_key=True), Column("value", Text, nullable=False),
)  # fmt: skip

users = Table(
    "users", metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("key", String(64), nullable=False, unique=True),  # the name in small letters
    Column("kind", String(8), nullable=False, default="user"),  # user, org
    Column("full_name", String(200), nullable=False, default=""),
    Column("about", Text, nullable=False, default=""),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("suspended", Boolean, nullable=False, default=False),
    Column("quota_bytes", BigInteger),  # None: the hub's own
    Column("public_key", Text, nullable=False, default=""),  # Ed25519, PEM: what the owner signs with
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

members = Table(
    "members", metadata,
    Column("org_id", _Id, _reference("users.id"), primary_key=True),
    Column("user_id", _Id, _reference("users.id"), primary_key=True),
    Column("role", String(8), nullable=False),  # admin, write, read
)  # fmt: skip

tokens = Table(
    "tokens", metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, _reference("users.id"), nullable=False, index=True),
    Column("label", String(100), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the token: the token itself is kept nowhere
    Column("scope", String(8), nullable=False),  # read, write, admin
    Column("repo_id", _Id, _reference("repos.id")),  # None: every repository of its user
    Column("created_ms", _Time, nullable=False),
    Column("used_ms", _Time),
    Column("expires_ms", _Time),
)  # fmt: skip

# Browser sessions: tokens that end with the one that somebody logged in with.
session_tokens = Table(
    "session_tokens", metadata,
    Column("token_id", _Id, _reference("tokens.id"), primary_key=True),
    Column("made_with", _Id, nullable=False, index=True),
)  # fmt: skip

repos = Table(
    "repos", metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(8), nullable=False),  # model, dataset
    Column("owner_id", _Id, _reference("users.id"), nullable=False, index=True),
    Column("full_name", String(200), nullable=False),  # owner/name
    Column("key", String(220), nullable=False, unique=True),  # RepoName.key
    Column("private", Boolean, nullable=False, default=False),
    Column("gated", String(8), nullable=False, default=""),  # "", auto, manual
    Column("created_ms", _Time, nullable=False),
    Column("modified_ms", _Time, nullable=False),
    Column("head", String(40)),  # the commit of main
    Column("downloads", BigInteger, nullable=False, default=0),
    Column("likes", BigInteger, nullable=False, default=0),
    Column("trending", Double, nullable=False, default=0.0),  # see registry/popularity.py
    Column("taken_down", Boolean, nullable=False, default=False),
    Column("name_pieces", String(220), nullable=False, default=""),  # "Tiny Llama" of "TinyLlama": words to search
    # What the gallery shows and filters by, computed from the head's files and card at each commit:
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("artefact", String(24), nullable=False, default=""),  # gguf, adapter, image-lora, pipeline, safetensors, ...
    Column("architecture", String(64), nullable=False, default=""),
    Column("quantisation", String(32), nullable=False, default=""),
    Column("parameters", BigInteger),
    Column("licence", String(64), nullable=False, default=""),
    Column("pipeline_tag", String(64), nullable=False, default=""),
    Column("library", String(64), nullable=False, default=""),
    Column("base_model", String(200), nullable=False, default=""),
    Column("summary", Text, nullable=False, default=""),  # one line for cards
    Column("picture", String(1024), nullable=False, default=""),  # path of the picture to show
    Column("rating", String(16), nullable=False, default=""),  # "", general, mature, explicit
    Column("tags", JSON, nullable=False, default=list),
    Column("card", JSON, nullable=False, default=dict),  # the README's front matter
    # One for each order of the gallery; the id makes each order complete, for pages that begin after a repository.
    Index("repos_by_modified", "kind", "modified_ms", "id"),
    Index("repos_by_created", "kind", "created_ms", "id"),
    Index("repos_by_downloads", "kind", "downloads", "id"),
    Index("repos_by_likes", "kind", "likes", "id"),
    Index("repos_by_size", "kind", "size_bytes", "id"),
    Index("repos_by_trending", "kind", "trending", "id"),
    # Facets of the whole gallery are counted from this index alone, in its order.
    Index("repos_by_facets", "kind", "private", "taken_down", "artefact", "architecture", "quantisation", "licence",
          "pipeline_tag", "library", "rating", "owner_id"),
    Index("repos_by_base", "base_model"),
)  # fmt: skip

moves = Table(
    "moves", metadata,
    Column("key", String(220), primary_key=True),  # a former RepoName.key
    Column("repo_id", _Id, _reference("repos.id"), nullable=False),
)  # fmt: skip

refs = Table(
    "refs", metadata,
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("name", String(220), primary_key=True),  # refs/heads/main, refs/tags/v1
    Column("commit", String(40), nullable=False),
    Column("immutable", Boolean, nullable=False, default=False),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

commits = Table(
    "commits", metadata,
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("oid", String(40), primary_key=True),
    Column("parent", String(40), nullable=False, default=""),
    Column("tree", String(40), nullable=False),
    Column("author", String(200), nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

# Git's trees, shared by all commits and repositories that have the same.
tree_entries = Table(
    "tree_entries", metadata,
    Column("tree", String(40), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("kind", String(4), nullable=False),  # tree, blob
    Column("oid", String(40), nullable=False),  # of a large file: its LFS pointer's
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("digest", String(71), index=True),  # of the content; None for a tree
    Column("lfs", Boolean, nullable=False, default=False),
)  # fmt: skip
# From a tree to those that hold it: who has a blob is asked from the blob upwards.
Index("trees_in_trees", tree_entries.c.oid, sqlite_where=tree_entries.c.kind == "tree",
      postgresql_where=tree_entries.c.kind == "tree")  # fmt: skip

blobs = Table(
    "blobs", metadata,
    Column("digest", String(71), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_ms", _Time, nullable=False),  # when it was last sent: garbage collection waits from here
    Column("facts", JSON),  # what inspection found: format, tensors, pictures' metadata; None: not inspected yet
    Column("damaged", Boolean, nullable=False, default=False),
)  # fmt: skip

# Which repository has, or ever had, which blob; and who sent which: a digest alone lets nobody use a blob.
repo_blobs = Table(
    "repo_blobs", metadata,
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("digest", String(71), primary_key=True, index=True),
)  # fmt: skip
sent_blobs = Table(
    "sent_blobs", metadata,
    Column("user_id", _Id, _reference("users.id"), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

likes = Table(
    "likes", metadata,
    Column("user_id", _Id, _reference("users.id"), primary_key=True),
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

access_requests = Table(
    "access_requests", metadata,
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("user_id", _Id, _reference("users.id"), primary_key=True),
    Column("status", String(10), nullable=False),  # pending, accepted, rejected
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

discussions = Table(
    "discussions", metadata,
    Column("repo_id", _Id, _reference("repos.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("author", String(64), nullable=False),
    Column("status", String(8), nullable=False, default="open"),  # open, closed
    Column("created_ms", _Time, nullable=False),
    Column("comments", JSON, nullable=False, default=list),  # [{author, text, created_ms}]
)  # fmt: skip

# What was made from what. `state`: verified (signed provenance or recomputed), declared (the card says so), unknown.
lineage = Table(
    "lineage", metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", _Id, _reference("repos.id"), nullable=False, index=True),
    Column("path", String(1024), nullable=False, default=""),
    Column("relation", String(16), nullable=False),  # adapter, quantized, finetune, merge, dataset
    Column("base_name", String(300), nullable=False, default=""),
    Column("base_digest", String(71), nullable=False, default="", index=True),
    Column("state", String(10), nullable=False),
    Column("evidence", JSON, nullable=False, default=dict),
)  # fmt: skip

# What people think should not be here; the hub's admin decides.
reports = Table(
    "reports", metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", _Id, _reference("repos.id"), nullable=False, index=True),
    Column("reporter", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", String(8), nullable=False, default="open"),  # open, closed
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

signatures = Table(
    "signatures", metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", _Id, _reference("repos.id"), nullable=False, index=True),
    Column("commit", String(40), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("details", JSON, nullable=False, default=dict),
    UniqueConstraint("repo_id", "commit", "key_id"),
)  # fmt: skip

samples = Table(
    "samples", metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", _Id, _reference("repos.id"), nullable=False, index=True),
    Column("commit", String(40), nullable=False),
    Column("content", JSON, nullable=False),  # prompt, seed, sampling, answer, digests of base and adapter, machine
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

tombstones = Table(
    "tombstones", metadata,
    Column("id", _Id, primary_key=True),
    Column("target", String(300), nullable=False, index=True),  # RepoName.key or a blob's digest
    Column("reason", Text, nullable=False),
    Column("statement", JSON, nullable=False),  # what was signed
    Column("signature", Text, nullable=False),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip

# The hub's own history: append-only, each entry names the one before by its hash and is signed by the hub.
events = Table(
    "events", metadata,
    Column("seq", _Id, primary_key=True),
    Column("created_ms", _Time, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("before", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("signature", Text, nullable=False, default=""),
)  # fmt: skip

# Xet: which xorbs and files are known, and where a xorb's chunks are now: in whole blobs.
xet_files = Table(
    "xet_files", metadata,
    Column("hash", String(64), primary_key=True),
    Column("digest", String(71), nullable=False, index=True),
)  # fmt: skip
xet_xorbs = Table(
    "xet_xorbs", metadata,
    Column("hash", String(64), primary_key=True),
    Column("chunks", LargeBinary, nullable=False),  # of each chunk its hash (32 bytes) and size (uint32)
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip
xet_sent = Table(  # who sent which xorb, and where its content is until it is a part of whole files
    "xet_sent", metadata,
    Column("xorb", String(64), primary_key=True),
    Column("user_id", _Id, _reference("users.id"), primary_key=True),
    Column("run", String(64), nullable=False, index=True),
    Column("offset_bytes", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_ms", _Time, nullable=False),
)  # fmt: skip
xet_segments = Table(
    "xet_segments", metadata,
    Column("xorb", String(64), primary_key=True),
    Column("first_chunk", Integer, primary_key=True),
    Column("digest", String(71), primary_key=True, index=True),
    Column("end_chunk", Integer, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),
)  # fmt: skip
xet_chunks = Table(  # only those by which clients ask whether a file is known in part
    "xet_chunks", metadata,
    Column("hash", String(64), primary_key=True),
    Column("xorb", String(64), nullable=False),
)  # fmt: skip
