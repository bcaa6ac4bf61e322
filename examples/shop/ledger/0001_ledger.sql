-- The books: two entries per payment, which cancel each other out.
CREATE TABLE accounts (
    code VARCHAR(8) PRIMARY KEY,
    name VARCHAR(64) NOT NULL
);

CREATE TABLE postings (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    -- The event that it came of: a payment is posted once, however often it is handed on.
    event_id BIGINT NOT NULL UNIQUE,
    order_id BIGINT NOT NULL,
    posted_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE entries (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    posting_id BIGINT NOT NULL,
    account VARCHAR(8) NOT NULL,
    cents BIGINT NOT NULL,
    FOREIGN KEY (posting_id) REFERENCES postings (id),
    FOREIGN KEY (account) REFERENCES accounts (code)
);

INSERT INTO accounts (code, name) VALUES ('1200', 'Bank'), ('8400', 'Sales');
