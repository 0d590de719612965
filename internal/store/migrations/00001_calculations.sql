-- +goose Up
CREATE TABLE calculations (
    index           bigint PRIMARY KEY CHECK (index >= 0),
    -- The order in which indexes were first asked for: what lists sort and page by.
    seq             bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    requested_at    timestamptz NOT NULL DEFAULT now(),
    completed_at    timestamptz,
    compute_seconds double precision,
    digits          bigint,
    -- A short number stands in value; of a long one only its ends are here, and the whole in numbers.
    value           text,
    head            text,
    tail            text,
    error           text
);

-- Lists of one status, and the sweeper's walk over what is pending.
CREATE INDEX calculations_status_seq ON calculations (status, seq);

CREATE TABLE numbers (
    index  bigint PRIMARY KEY REFERENCES calculations ON DELETE CASCADE,
    digits bytea NOT NULL
);

-- Not compressed, so that a slice is read without the rest.
ALTER TABLE numbers ALTER COLUMN digits SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE numbers;
DROP TABLE calculations;
