-- Tables 5 to 9: a parent and its four children, as a service has them by the dozen.
CREATE TABLE t05 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t05 (name);
CREATE INDEX ON t05 (value);
CREATE TABLE t06 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t05,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t06 (name);
CREATE INDEX ON t06 (value);
CREATE TABLE t07 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t05,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t07 (name);
CREATE INDEX ON t07 (value);
CREATE TABLE t08 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t05,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t08 (name);
CREATE INDEX ON t08 (value);
CREATE TABLE t09 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t05,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t09 (name);
CREATE INDEX ON t09 (value);
