-- Where orders come from.
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer text NOT NULL,
    amount_cents bigint NOT NULL,
    placed_at timestamp(3) NOT NULL
);

-- What a dashboard reads: one row for each customer and hour.
CREATE TABLE order_totals (
    customer text NOT NULL,
    window_start timestamp(3) NOT NULL,
    orders bigint NOT NULL,
    total_cents bigint NOT NULL,
    PRIMARY KEY (customer, window_start)
);
