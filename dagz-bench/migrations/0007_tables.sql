-- Tables 30 to 34: a parent and its four children, as a service has them by the dozen.
CREATE TABLE t30 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t30 (name);
CREATE INDEX ON t30 (value);
CREATE TABLE t31 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t30,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t31 (name);
CREATE INDEX ON t31 (value);
CREATE TABLE t32 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t30,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t32 (name);
CREATE INDEX ON t32 (value);
CREATE TABLE t33 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t30,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t33 (name);
CREATE INDEX ON t33 (value);
CREATE TABLE t34 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t30,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t34 (name);
CREATE INDEX ON t34 (value);
