-- What the picture of the dashboard shows: some services at work, with retries, rivals, workers that are slow, and a sale.
\set key random_zipfian(1, 4000, 1.05)
\set service random_zipfian(1, 9, 1.2)
\set kind random(1, 100)
\set order random(1, 1000000)
\if :kind <= 8
BEGIN;
SELECT idem_claim('scheduler', 'run ' || floor(extract(epoch FROM clock_timestamp()) * 4));
\sleep 40 ms
END;
\elif :kind <= 50
BEGIN;
SELECT idem_claim('service ' || :service, 'order ' || :key, jsonb_build_object('amount', CASE WHEN random() < 0.004 THEN 2 ELSE 1 END));
\sleep 2 ms
END;
\elif :kind <= 65
SELECT fence AS fence, status = 'granted' AS granted FROM idem_begin('mail', 'message ' || :key + :order % 7 * 4000, ttl => CASE WHEN random() < 0.05 THEN interval '20 milliseconds' ELSE interval '10 seconds' END) \gset
\if :granted
\sleep 5 ms
\set answer random(1, 100)
\if :answer <= 88
SELECT idem_complete('mail', 'message ' || :key + :order % 7 * 4000, :fence, '{"sent": true}');
\elif :answer <= 94
SELECT idem_fail('mail', 'message ' || :key + :order % 7 * 4000, :fence, '{"sent": false}');
\endif
\endif
\elif :kind <= 80
SELECT idem_stock_reserve('shop', :order::text, 'item ' || :order % 3, 1 + :order % 2, ttl => CASE WHEN random() < 0.1 THEN interval '1 second' END) AS reserved \gset
\if :reserved
\set end random(1, 10)
\if :end <= 7
SELECT idem_stock_confirm('shop', :order::text);
\elif :end = 8
SELECT idem_stock_release('shop', :order::text);
\endif
\endif
\elif :kind <= 90
SELECT idem_token_issue('form') AS token \gset
SELECT idem_token_consume(':token', 'form');
\else
SELECT coalesce(idem_lock('job ' || :order % 3, '15 milliseconds'), 0) AS fence \gset
\if :fence
\sleep 4 ms
SELECT idem_unlock('job ' || :order % 3, :fence);
\endif
\endif
