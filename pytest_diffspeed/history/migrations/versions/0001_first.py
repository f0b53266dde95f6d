"""Sessions, their records word for word, and the figures of their gates as series of points."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "session",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("committed_s", sa.Double),
        sa.Column("commit_name", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("dirty", sa.Boolean, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("machine_name", sa.Text, nullable=False),
        sa.Column("evidence_lines", sa.Integer, nullable=False),
    )
    op.create_index("session_at", "session", ["at_s"])
    op.create_table(
        "record",
        sa.Column("id", sa.Integer, primary_key=True),
        _owner("session"),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("record_of_session", "record", ["session_id", "position"], unique=True)
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(32), nullable=False, unique=True),
        sa.Column("test", sa.Text, nullable=False),
        sa.Column("stack", sa.Text, nullable=False),
        sa.Column("claim", sa.Text, nullable=False),
        sa.Column("figure", sa.Text, nullable=False),
        sa.Column("better", sa.String(6), nullable=False),
        sa.Column("is_counted", sa.Boolean, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("machine_name", sa.Text, nullable=False),
        sa.Column("condition", sa.Text, nullable=False),
    )
    op.create_table(
        "point",
        sa.Column("id", sa.Integer, primary_key=True),
        _owner("series"),
        _owner("session"),
        sa.Column("order_s", sa.Double, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("verdict", sa.Text, nullable=False),
    )
    op.create_index("point_in_series", "point", ["series_id", "order_s", "at_s"])
    op.create_index("point_of_session", "point", ["session_id", "series_id"], unique=True)


def _owner(table: str) -> "sa.Column[int]":
    key = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(f"{table}_id", sa.Integer, key, nullable=False)


def downgrade() -> None:
    for table in ("point", "series", "record", "session"):
        op.drop_table(table)
