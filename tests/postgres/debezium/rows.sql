-- Rows of all types; :base is added to the keys. The same before the snapshot and while streaming.
INSERT INTO types VALUES (:base + 1,
    true, -32768, 2147483647, -9223372036854775808, 4294967295,
    0.1, 1e300,
    -12345678.9, 123456789, 123.450, 5.5,
    E'a\tb\\c\nÄ€😀', 'abc', 'abc', 'x', 'label', 'CaSe',
    '\x00ff5c', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{"a": [1, null]}', '{"b":1,"a":"x"}', '<a>1</a>', 'it''s, ok', 'top.mid.low',
    '2026-11-30', '13:51:30.123456', '13:51:30', '13:51:30.123', '13:51:30.120', '13:51:30.123456+02:30',
    '2026-11-30 13:51:30.123456', '2026-11-30 13:51:30', '2026-11-30 13:51:30.123', '2026-11-30 13:51:30.12345',
    '2026-11-30 13:51:30.120+02', '2026-11-30 13:51:30+02',
    '1 year 2 months 3 days -04:05:06.789', '3 days 4 hours',
    B'1', B'100000001101', B'100000001', B'1',
    '10.0.0.1/8', '10.0.0.0/8', '08:00:2B:01:02:03', '08:00:2b:01:02:03:04:05',
    '[1,5)', '(,9]', '(1.5,2.5]', '[2026-01-01,2026-02-01)', '[2026-01-01 00:00,)', '[2026-01-01 00:00+00,)',
    '(1.5,-2)', 'a b:2', 'a=>1, "b c"=>NULL, d=>"e\"f"');
INSERT INTO types (id) VALUES (:base + 2);
INSERT INTO types VALUES (:base + 3,
    false, 0, 0, 0, 0,
    -1.5e-30, 0,
    0, 0, 1e20, 0.001,
    '', '', '', '', '', '',
    '', '00000000-0000-0000-0000-000000000000', 'null', '[]', '', 'sad', 'a',
    '0044-03-15 BC', '00:00', '23:59:59', '00:00', '23:59:59.999999', '00:00:00-05:30',
    '1969-12-31 23:59:59.999999', '1900-01-01', '1969-12-31 23:59:59.999', '1582-10-10 00:00:00',
    '1969-12-31 23:59:59.999999+00', '0044-03-15 12:00:00+00 BC',
    '0', '-1 days',
    B'0', B'000000000000', B'', B'',
    '::1', '192.168.0.0/16', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00',
    'empty', '[1,2]', '(,)', 'empty', '(,)', '(,)',
    '(0,0)', '', '');
INSERT INTO types (id, exact, price, day, tm, ts, tsz, span, wide, single, feeling) VALUES (:base + 4,
    -0.000000000000000000000001, 99999999.99, '9999-12-31', '24:00:00', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00',
    '-1 year -2 months +3 days 00:00:00.000001', -0.0, 3.4028235e38, 'a"b');
INSERT INTO types (id, tsz, ts, day) VALUES (:base + 5, 'infinity', 'infinity', 'infinity'), (:base + 6, '-infinity', '-infinity', '-infinity');
INSERT INTO types (id, single, wide) VALUES (:base + 7, 'NaN', 'Infinity');
INSERT INTO arrays VALUES (:base + 1,
    '{t,f,NULL}', '{1,-2}', '{1,NULL,-3}', '{9223372036854775807}', '{1.5}', '{-2.25,1e100}',
    '{1.5,-2}', ARRAY['a,b', NULL, 'c"d', '', 'NULL'], '{ab,cd}', '{x,yz}',
    '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', ARRAY['{"a":1}'::jsonb, 'null'], ARRAY['it''s, ok', 'a"b']::mood[], '{2026-11-30}',
    '{"2026-11-30 10:00:00.5"}', '{"2026-11-30 10:00:00+02"}', '{{1,2},{3,4}}');
INSERT INTO arrays (id) VALUES (:base + 2);
INSERT INTO arrays (id, notes, wholes, keys) VALUES (:base + 3, '{}', '{}', '{}');
INSERT INTO required VALUES (:base + 1, true, 5, 1.5, 10.25, 'n', '\x01', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', '2026-11-30', '10:00',
    '2026-11-30 10:00', '2026-11-30 10:00+00', '1 day', B'100000001', '{a}', 'sad', 'code', '(1,2)', 'a=>1', 1.5);
INSERT INTO required VALUES (:base + 2, true, 5, 1.5, 10.25, 'n', '\x01', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', '2026-11-30', '10:00',
    '2026-11-30 10:00', '2026-11-30 10:00+00', '1 day', B'100000001', '{a}', 'sad', 'code', '(1,2)', 'a=>1', 1.5);
INSERT INTO defaults (id, made, made_ts, key) VALUES (:base + 1, '2026-11-30 10:00+00', '2026-11-30 10:00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
INSERT INTO defaults (id, small, short, big, price, made, made_ts, key) VALUES (:base + 2, NULL, NULL, NULL, 1, '2026-11-30 10:00+00', NULL, NULL);
INSERT INTO generated VALUES (:base + 1, 3);
INSERT INTO composite VALUES (:base + 1, 'x', 'v'), (:base + 1, 'y', 'v');
INSERT INTO reversed VALUES (:base + 1, 1, 'v'), (:base + 1, 2, 'v');
INSERT INTO whole VALUES (:base + 1, 'a', 1), (:base + 2, 'b', NULL);
INSERT INTO by_index VALUES (1, :base + 1, 'c', 'd'), (2, :base + 2, NULL, 'd');
INSERT INTO no_key VALUES ('a', :base + 1), (NULL, NULL);
INSERT INTO no_key_full VALUES ('a', :base + 1), (NULL, NULL);
INSERT INTO nothing VALUES (:base + 1, 'v');
INSERT INTO large SELECT :base + 1, repeat('x', 5000), repeat('y', 5000)::bytea, ARRAY[repeat('z', 5000)], ('{"a":"' || repeat('w', 5000) || '"}')::jsonb,
    hstore('a', repeat('v', 5000)), 1, repeat('u', 5000);
INSERT INTO large_full SELECT :base + 1, repeat('x', 5000), 1;
INSERT INTO truncated VALUES (:base + 1), (:base + 2);
INSERT INTO "Other Schema"."Mixed Case" VALUES (:base + 1, 'v');
INSERT INTO parts VALUES (:base + 1, '2025-05-05', 'old'), (:base + 2, '2026-05-05', 'new');
INSERT INTO unknown VALUES (:base + 1, '((0,0),(1,1))', 'v', 'a & b');
