# Pins what doc/security.md says an attacker with each privilege gets, and what he does not: each statement there that no
# other test pins is one here.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $node = idem_node('security');
$node->safe_psql('postgres', q{
	CREATE ROLE shop LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE reader LOGIN IN ROLE pg_read_all_data; CREATE ROLE writer LOGIN IN ROLE pg_read_all_data, pg_write_all_data;
	CREATE ROLE forgetter LOGIN; GRANT EXECUTE ON FUNCTION idem_forget TO forgetter;
	CREATE ROLE machinist LOGIN; GRANT EXECUTE ON FUNCTION idem_machine TO machinist;
	CREATE ROLE rekeyer LOGIN; GRANT EXECUTE ON FUNCTION idem_token_rekey TO rekeyer;
	CREATE ROLE stocker LOGIN; GRANT EXECUTE ON FUNCTION idem_stock_add TO stocker;
	CREATE ROLE purger LOGIN; GRANT EXECUTE ON PROCEDURE idem_purge TO purger;
	CREATE DATABASE app OWNER mallory;
	SELECT idem_machine('orders', 'created -> paid'), idem_stock_add('item', 3);
});
my %as = map { $_ => IdemTest::Session->new($node, user => $_) } qw(shop mallory reader writer forgetter machinist rekeyer stocker purger);
my $admin = IdemTest::Session->new($node);

for my $route (qw(off on))
{
	$_->ask("SET idem.force_sql = $route") for values %as, $admin;
	my ($shop, $mallory) = @as{qw(shop mallory)};

	# A login, nothing else: the name space is shared
	is($mallory->ask("SELECT idem_claim('web', 'guessed $route')"), 't', "force_sql $route: a guessed key can be taken first");
	is($shop->ask("SELECT idem_claim('web', 'guessed $route')"), 'ERROR 42501', 'its rightful user is refused, and not told that it was done');
	$shop->ask(qq{SELECT idem_claim('web', 'mine $route', '{"amount": 7}'), idem_respond('web', 'mine $route', '"secret"')});
	is($mallory->ask(qq{SELECT idem_claim('web', 'mine $route', '{"amount": $_}')}), 'ERROR 42501', "a guess at the request is not answered, right or wrong ($_)") for 7, 8;
	is($mallory->ask("SELECT idem_lookup('web', 'mine $route')"), 'ERROR 42501', 'that a key is used can be learned');
	is($mallory->ask("SELECT (idem_lookup('web', 'unused $route')).status IS NULL"), 't', 'and that it is not');
	is($mallory->ask("SELECT idem_cancel('web', 'ahead $route')"), 'cancelled', 'a key can be cancelled ahead');
	is($shop->ask("SELECT idem_claim('web', 'ahead $route')"), 'ERROR 42501', 'which is a refusal, too');
	is($mallory->ask("SELECT idem_stock_release('web', 'order $route')"), 't', 'an order can be refused ahead');
	is($shop->ask("SELECT idem_stock_reserve('web', 'order $route', 'item', 1)"), 'ERROR 42501', 'likewise');

	# make others wait, as long as his transaction is open
	$mallory->ask('BEGIN');
	$mallory->ask("SELECT idem_claim('web', 'open $route')");
	is($shop->ask("SELECT idem_claim('web', 'open $route', wait => false)"), 'ERROR ID409', 'who does not want to wait need not');
	is($shop->ask("SET lock_timeout = '10ms'; SELECT idem_claim('web', 'open $route')"), 'ERROR 55P03', 'lock_timeout ends a wait');
	$shop->ask('RESET lock_timeout');
	is($shop->ask("SELECT idem_claim('web', 'another $route')"), 't', 'no other key waits');
	$mallory->ask('ROLLBACK');
	is($shop->ask("SELECT idem_claim('web', 'open $route')"), 't', 'then it is free');

	# locks: a name belongs to the role that had it first
	is($mallory->ask("SELECT idem_lock('name $route')"), '1', 'a free name can be taken');
	$mallory->ask("SELECT idem_unlock('name $route', 1)");
	is($shop->ask("SELECT idem_lock('name $route')"), 'ERROR 42501', 'and stays with him when it is given back');
	$admin->ask("DELETE FROM idem.lock WHERE name = 'name $route'");
	is($shop->ask("SELECT idem_lock('name $route')"), '1', 'until the owner of the tables removes it');

	# advisory locks of the application's, of whatever number, are none of ours
	$mallory->ask("SELECT pg_advisory_lock(n), pg_advisory_lock(n, 478) FROM generate_series(1, 50) n");
	is($mallory->ask(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid NOT IN (1, 2)}), '0', 'SQL cannot take a lock of our class');
	$mallory->ask('SELECT pg_advisory_unlock_all()');

	# stock and limits are everybody's who may execute the functions
	is($mallory->ask("SELECT idem_stock_reserve('m', '$route', 'item', 3)"), 't', 'all of an item can be held');
	is($shop->ask("SELECT idem_stock_reserve('s', '$route', 'item', 1)"), 'f', 'then others get none');
	is($shop->ask("SELECT idem_stock_release('m', '$route')"), 'ERROR 42501', 'and cannot give it back for him');
	is($admin->ask("SELECT idem_stock_release('m', '$route')"), 't', 'a superuser can');
	is($mallory->ask("SELECT idem_token_issue('login', 'alice $route', max_issues => 1, per => '1 year') IS NOT NULL"), 't', 'a limit can be used up');
	is($shop->ask("SELECT idem_token_issue('login', 'alice $route', max_issues => 1)"), 'ERROR ID429', 'by somebody else');

	# tokens: who has one may consume it, who has none cannot make one
	my $token = $shop->ask("SELECT idem_token_issue('pay', 'alice')");
	# the two bits to spare stay zero
	my $forged = substr($token, 0, -1) . (substr($token, -1) eq 'A' ? 'E' : 'A');
	is($mallory->ask("SELECT idem_token_status('$forged', 'pay', 'alice')"), 'invalid', 'a changed token is invalid');
	is($mallory->ask("SELECT idem_token_consume('$token', 'pay', 'bob')"), 'f', 'nor for somebody else');
	is($mallory->ask("SELECT idem_token_consume('$token', 'pay', 'alice')"), 't', 'who has the token has what it is for');

	# what an administrator's function gives
	is($as{forgetter}->ask("SELECT idem_forget('web', 'mine $route')"), 'ERROR 42501', 'EXECUTE on idem_forget: nothing of a role that one may not act as');
	is($as{forgetter}->ask("SELECT idem_claim('forgetter', '$route'), idem_forget('forgetter', '$route')"), 't|t', 'but what is its own');
	is($admin->ask("SELECT idem_forget('web', 'mine $route')"), 't', 'a superuser: anything can be made to run twice');
	is($shop->ask("SELECT idem_claim('web', 'mine $route')"), 't', 'it runs again');
	is($as{machinist}->ask(q{SELECT idem_machine('orders', 'paid -> created')}), '1', 'EXECUTE on idem_machine: the order of states of all tables');
	is($shop->ask(q{SELECT idem_verdict('orders', 'paid', 'created')}), 'apply', 'for every role, at once');
	$admin->ask(q{SELECT idem_machine('orders', 'created -> paid')});
	$token = $shop->ask("SELECT idem_token_issue('pay', 'carol')");
	$as{rekeyer}->ask('SELECT idem_token_rekey()');
	is($shop->ask("SELECT idem_token_status('$token', 'pay', 'carol')"), 'live', 'EXECUTE on idem_token_rekey: a new key, no token is lost');
	is($as{rekeyer}->ask('SELECT * FROM idem.token_key'), 'ERROR 42501', 'and no secret read');
	is($as{stocker}->ask("SELECT idem_stock_add('made $route', 5)"), '5', 'EXECUTE on idem_stock_add: stock out of nothing');
	is($as{stocker}->ask("SELECT idem_stock_add('item', -1)"), 'ERROR 22023', 'but none taken away');
	is($as{purger}->ask(q{CALL idem_purge('1 microsecond')}), '', 'EXECUTE on idem_purge: what is finished can be made to run again');
	is($shop->ask("SELECT idem_claim('web', 'another $route')"), 't', 'as here');
	is($shop->ask("SELECT idem_begin('web', 'running $route', '1 hour')") =~ /granted/ ? 't' : 'f', 't', '(an attempt)');
	$as{purger}->ask(q{CALL idem_purge('1 microsecond')});
	is($shop->ask("SELECT (idem_lookup('web', 'running $route')).status"), 'running', 'but nothing that runs');
	is($admin->ask("SELECT idem_forget('web', 'running $route')"), 'ERROR ID409', 'nor can that be forgotten');

	# the server's own roles
	$shop->ask(qq{SELECT idem_claim('web', 'read $route'), idem_respond('web', 'read $route', '"secret"')});
	is($as{reader}->ask("SELECT response FROM idem.claim WHERE seq = 'read $route'"), '"secret"', 'pg_read_all_data: answers');
	is($as{reader}->ask('SELECT count(secret) > 0 FROM idem.token_key'), 't', 'and the secret that signs tokens');
	is($as{writer}->ask("UPDATE idem.claim SET owner = 'writer' WHERE seq = 'read $route'; SELECT idem_response('web', 'read $route')"), '"secret"', 'pg_write_all_data: forged records');
}

# A dump in wrong hands: what its key has signed is good until all keys are gone
{
	my $token = $as{shop}->ask(q{SELECT idem_token_issue('pay', 'dave')});
	$admin->ask('SELECT idem_token_rekey()');
	is($as{shop}->ask("SELECT idem_token_status('$token', 'pay', 'dave')"), 'live', 'rekeying alone ends no token');
	$admin->ask('BEGIN; DELETE FROM idem.token_key; SELECT idem_token_rekey(); COMMIT');
	is($as{shop}->ask("SELECT idem_token_status('$token', 'pay', 'dave')"), 'invalid', 'without the key no token of it is left');
	is($as{shop}->ask(q{SELECT idem_token_consume(idem_token_issue('pay'), 'pay')}), 't', 'and new ones are issued');
}

# A table of his: what he put on it runs as who uses it, as for any statement
my (undef, undef, $err) = $node->psql('app', 'CREATE EXTENSION idem', extra_params => [ '-U', 'mallory' ]);
like($err, qr/permission denied to create extension/, "the owner of a database cannot install: it is not trusted");
$node->safe_psql('postgres', q{
	CREATE SCHEMA trap AUTHORIZATION mallory; GRANT USAGE ON SCHEMA trap TO PUBLIC;
	CREATE TABLE trap.ran (by name); ALTER TABLE trap.ran OWNER TO mallory;
	CREATE FUNCTION trap.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO trap.ran VALUES (current_user); RETURN NEW; END$$;
	CREATE TABLE trap.product (id int PRIMARY KEY, stock int); INSERT INTO trap.product VALUES (1, 10);
	CREATE TRIGGER t BEFORE UPDATE ON trap.product FOR EACH ROW EXECUTE FUNCTION trap.fires();
	ALTER TABLE trap.product OWNER TO mallory; GRANT ALL ON trap.product, trap.ran TO PUBLIC;
});
is($as{shop}->ask(q{SELECT idem_deduct('trap.product', 'stock', 1, 1)}), 't', 'deducting from a table of his');
is($node->safe_psql('postgres', 'SELECT by FROM trap.ran'), 'shop', 'runs his trigger as the caller: never as the owner of idem');
# row security of the caller's tables holds
$node->safe_psql('postgres', q{
	CREATE TABLE hidden (id int PRIMARY KEY, stock int, owner name); INSERT INTO hidden VALUES (1, 10, 'shop');
	ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON hidden USING (owner = current_user); GRANT ALL ON hidden TO PUBLIC;
});
is($as{mallory}->ask(q{SELECT idem_deduct('hidden', 'stock', 1, 1)}), 'ERROR ID404', 'a row that row security hides is not there');
is($as{mallory}->ask(q{SELECT idem_lock_row('hidden', 1)}), 'f', 'nor to lock');
is($as{shop}->ask(q{SELECT idem_deduct('hidden', 'stock', 1, 1)}), 't', 'for its owner it is');

$_->end for values %as, $admin;
$node->stop;
done_testing();
