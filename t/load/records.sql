-- Records of every kind, in every table of idem, of several owners: what must be there, and mean the same, on another server.
-- For script/upgrade and t/144_blue_green.pl. The extension is there already.

CREATE ROLE alice;
CREATE ROLE bob;
CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, version int NOT NULL DEFAULT 1, qty int NOT NULL DEFAULT 10);
SELECT idem_machine('order', 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded');
CREATE TRIGGER state BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION idem_state('order', 'status');
CREATE TRIGGER version BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO orders VALUES (1, 'paid');
SELECT idem_policy('aged', '30 days', 'unix', '2020-01-01');
SELECT idem_stock_add('apple', 100), idem_stock_add('hot', 1000, 8);
CREATE TABLE token (live text, used text, earlier text);
GRANT SELECT, INSERT, UPDATE ON token TO alice;
SET SESSION AUTHORIZATION alice;
SELECT idem_claim('shop', k::text, format('{"n": %s}', k)::jsonb) FROM generate_series(1, 2000) k;
SELECT idem_respond('shop', '1', E'  {"b":1,\t"a" : 2, "a":\n\n3 }  ');
SELECT idem_respond('shop', '2', ('"' || repeat(md5('x'), 5000) || '"')::json);
SELECT idem_begin('send', 'runs', '1 day');
SELECT idem_begin('send', 'done'), idem_complete('send', 'done', 1, '"sent"');
SELECT idem_begin('send', 'failed'), idem_fail('send', 'failed', 1, '"no such number"', false);
SELECT idem_begin('send', 'open'), idem_fail('send', 'open', 1), idem_begin('send', 'open'), idem_fail('send', 'open', 2);
SELECT idem_cancel('send', 'cancelled');
SELECT idem_lock('nightly', '1 day');
SELECT idem_lock('freed'), idem_unlock('freed', 1), idem_lock('freed'), idem_unlock('freed', 2), idem_lock('freed'), idem_unlock('freed', 3);
SELECT idem_stock_reserve('cart', 'held', 'apple', 3), idem_stock_reserve('cart', 'held hot', 'hot', 700);
SELECT idem_stock_reserve('cart', 'sold', 'apple', 5), idem_stock_confirm('cart', 'sold');
SELECT idem_stock_reserve('cart', 'back', 'apple', 7), idem_stock_release('cart', 'back'), idem_stock_release('cart', 'never');
INSERT INTO token SELECT '', idem_token_issue('form', 'alice', '1 day'), idem_token_issue('form', 'alice', '1 day');
RESET SESSION AUTHORIZATION;
SELECT idem_token_rekey();
UPDATE token SET live = idem_token_issue('form', 'alice', '1 day');
SELECT idem_token_consume(used, 'form', 'alice'), idem_token_issue('limited', '', max_issues => 1, per => '1 day') FROM token;
SET SESSION AUTHORIZATION bob;
SELECT idem_claim('bob', '1'), idem_respond('bob', '1', '"for Bob"');
