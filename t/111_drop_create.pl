# Pins DROP EXTENSION and CREATE EXTENSION under load. The data go with the extension; what must hold is the rest: no session ends, those
# that have used the old one (its tables, plans, secret, machine, and prepared statements) use the new one at their next call and get its
# answers; and what the load has done since belongs to claims that are there. IDEM_DROPS: how often.
# soak: IDEM_DROPS=1000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use IPC::Run;
use Oracle 'time_is_up';
use PostgreSQL::Test::Utils;
use Test::More;

my $drops = $ENV{IDEM_DROPS} // 20;
my $clients = 8;
my $node = idem_node('drop', 'fsync = off', 'autovacuum = off', 'deadlock_timeout = 20ms', "log_line_prefix = '%m [%p] %e '");

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE effect (source text, seq text);
CREATE TABLE goods (id integer PRIMARY KEY, qty bigint);
INSERT INTO goods VALUES (1, 1000000000000);
CREATE TABLE doc (id integer PRIMARY KEY, version bigint);
INSERT INTO doc VALUES (1, 0);
CREATE TABLE purchase (id integer PRIMARY KEY, status text);
INSERT INTO purchase VALUES (1, 's0');
CREATE TABLE failed (code text, message text);
CREATE TABLE done (n integer);
CREATE FUNCTION work(request json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect VALUES ('call', request->>'key');
	RETURN request;
END $$;
-- everything once more, from the beginning; a definition that differs from the last one
CREATE PROCEDURE afresh(n integer) LANGUAGE plpgsql AS $$
BEGIN
	-- who is in a transaction ends it first, and finds all new when it goes on
	LOCK TABLE effect;
	DROP EXTENSION idem CASCADE;
	CREATE EXTENSION idem;
	TRUNCATE effect;
	PERFORM idem_machine('m', 's0 -> s' || n), idem_stock_add('one', 1000000000000 + n);
	CREATE TRIGGER v BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
END $$;
-- calls of all primitives; what they were is kept, unless all of it failed
CREATE PROCEDURE try(key text) LANGUAGE plpgsql AS $$
DECLARE
	fence bigint;
	message text;
BEGIN
	IF idem_claim('claim', key) THEN
		INSERT INTO effect VALUES ('claim', key);
	END IF;
	PERFORM idem_call('call', key, 'work', jsonb_build_object('key', key));
	fence := (idem_begin('attempt', key)).fence;
	PERFORM idem_complete('attempt', key, fence);
	fence := idem_lock(key);
	PERFORM idem_lock_check(key, fence), idem_unlock(key, fence);
	PERFORM idem_token_consume(idem_token_issue('t', max_issues => 1000000), 't');
	PERFORM idem_deduct('goods', 'qty', 1, 1);
	UPDATE doc SET id = id;
	PERFORM idem_advance('m', 'purchase', 'status', 's0', 1);
	PERFORM idem_stock_reserve('hold', key, 'one', 1);
	INSERT INTO done VALUES (1);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	INSERT INTO failed VALUES (sqlstate, message);
END $$;
CALL afresh(0);
SQL

# sessions that keep what they know of the old one
my @sessions = map { IdemTest::Session->new($node) } 1, 2;
$sessions[1]->ask('SET idem.force_sql = on');
$_->ask(q{PREPARE claim AS SELECT idem_claim('kept', $1)}) foreach @sessions;

# what a session must say of the extension that was made last; KEY is its own
sub answers
{
	my ($key) = @_;
	return (
		"EXECUTE claim('$key')" => 't',
		"EXECUTE claim('$key')" => 'f',
		"SELECT status, fence FROM idem_begin('kept', 'a$key')" => 'granted|1',
		"SELECT idem_lock('$key')" => '1',
		'SELECT ' . ($key =~ /^first/ ? "'invalid'" : "idem_token_status(:'token', 'login')") => 'invalid',
		"SELECT idem_token_issue('login') AS token \\gset" => '',
		"SELECT idem_token_consume(:'token', 'login')" => 't',
		"UPDATE doc SET version = version + 2" => 'ERROR ID412',
		"SELECT idem_deduct('goods', 'qty', 1, 1)" => 't',
		"SELECT idem_call('call', '$key', 'work', '{\"key\": \"$key\"}')" => "{\"key\": \"$key\"}",
		"SELECT idem_stock_reserve('kept', '$key', 'one', 1)" => 't');
}

my $script = $node->basedir . '/try.sql';
append_to_file($script, "\\set key random(1, 1000000000)\nCALL try((:key)::text);\n");
my ($out, $err) = ('', '');
my $load = IPC::Run::start(
	[ 'pgbench', '-n', '-c', $clients, '-j', 2, '-T', 3600, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'<', \undef, '>', \$out, '2>', \$err);
my ($done, @wrong);
foreach my $n (0 .. $drops)
{
	if ($n > 0)
	{
		# deadlocks with the load are possible, whoever is chosen begins again
		my $state = 'not tried';
		for (1 .. 20)
		{
			$state = sqlstate($node, "CALL afresh($n)");
			last if $state ne '40P01';
		}
		push @wrong, "drop $n: $state" if $state ne '';
	}
	foreach my $i (0, 1)
	{
		my @answers = answers(($n ? 'then' : 'first') . "$n-$i");
		unshift @answers, "SELECT idem_verdict('m', 's0', 's$n')" => $n ? 'apply' : 'same';
		unshift @answers, "SELECT idem_verdict('m', 's0', 's@{[ $n - 1 ]}')" => $n == 1 ? 'same' : 'ERROR 22023' if $n;
		while (my ($sql, $answer) = splice @answers, 0, 2)
		{
			my $got = $sessions[$i]->ask($sql);

			# through SQL null may also say that the load was in the way for a millisecond
			for (1 .. 100)
			{
				last if $sql !~ /idem_lock\(/ || $got ne '';
				$got = $sessions[$i]->ask($sql);
			}
			push @wrong, "after drop $n session $i: $sql: $got, not $answer" if $got ne $answer;
		}
	}
	# the load goes on with the new one, and with more than one transaction of each client
	$node->poll_query_until('postgres', "SELECT count(*) >= $clients * 3 FROM done") or push @wrong, "after drop $n: the load does nothing";
	push @wrong, "after drop $n: $_" foreach split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT 'effect without a claim: ' || e FROM effect e WHERE NOT EXISTS (SELECT FROM idem.claim c WHERE (c.source, c.seq) = (e.source, e.seq) AND c.status = 'd');
SELECT 'claim without an effect: ' || c FROM idem.claim c WHERE source IN ('claim', 'call') AND NOT EXISTS (SELECT FROM effect e WHERE (c.source, c.seq) = (e.source, e.seq));
TRUNCATE done;
SQL
	$done = $n;
	last if @wrong || !$load->pumpable || time_is_up();
}
note("figures: $done times dropped and made anew");
ok($load->pumpable, 'the clients of the load are alive');
$load->signal('TERM');
$load->finish;
unlike($err, qr/error|aborted/, '… all of them');
is(join("\n", @wrong), '', "$done times: sessions go on, with the new extension");
note($node->safe_psql('postgres', q{SELECT string_agg(code || ' ' || message || ' (' || n || ')', E'\n')
	FROM (SELECT code, regexp_replace(message, '\d+', 'N', 'g') AS message, count(*) AS n FROM failed GROUP BY 1, 2) f}));
is( $node->safe_psql('postgres', q{SELECT string_agg(DISTINCT code || ' ' || message, E'\n') FROM failed WHERE code NOT IN ('42P01', '42883', '40P01', '3F000')}),
	'', 'errors only name what was not there just then');
is(join("\n", grep { /PANIC:|TRAP:|WARNING:|was terminated by signal|\] XX\w{3} ERROR/ } split /\n/, slurp_file($node->logfile)), '', 'a clean log');

$_->end foreach @sessions;
$node->stop;
done_testing();
