-- Tables 20 to 24: a parent and its four children, as a service has them by the dozen.
CREATE TABLE t20 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t20 (name);
CREATE INDEX ON t20 (value);
CREATE TABLE t21 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t20,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t21 (name);
CREATE INDEX ON t21 (value);
CREATE TABLE t22 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t20,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t22 (name);
CREATE INDEX ON t22 (value);
CREATE TABLE t23 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t20,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t23 (name);
CREATE INDEX ON t23 (value);
CREATE TABLE t24 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t20,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t24 (name);
CREATE INDEX ON t24 (value);
