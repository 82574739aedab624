# Claims, batches and attempts of a few hundred keys, by both routes and at three levels, while purges run all the time and the retention
# is made shorter and longer, and the policy is dropped and made again: every key runs at most once, though each is forgotten again and again.
# t/030 has the same in one session after another, with a model; here they meet.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use File::Temp;
use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{IDEM_STORM_SECONDS} // 8;
my $node = idem_node('storm');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE effect (key text, how text);
	CREATE TABLE said (what text);
	-- a key of the last two seconds, or half a second ahead, on a grid of 10 ms: many clients call each of them, at all ages
	CREATE FUNCTION some_key() RETURNS text LANGUAGE sql VOLATILE AS $$
		SELECT ((extract(epoch FROM clock_timestamp()) * 100)::bigint * 10 + 500 - floor(random() * 250)::bigint * 10)::text
	$$;
	CREATE FUNCTION storm(how text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		key text := some_key(); ran text[];
	BEGIN
		CASE how
			WHEN 'claim' THEN ran := ARRAY(SELECT key WHERE (SELECT idem_claim('storm', key)));
			WHEN 'batch' THEN ran := ARRAY(SELECT seq FROM idem_claim_batch('storm', ARRAY[some_key(), some_key(), some_key(), key]) WHERE claimed);
			WHEN 'begin' THEN ran := ARRAY(SELECT key WHERE (SELECT status FROM idem_begin('storm', key, '1 hour')) = 'granted');
				PERFORM idem_complete('storm', r, 1) FROM unnest(ran) r;
			-- an order is confirmed once, however often it is reserved
			WHEN 'order' THEN IF idem_stock_reserve('storm', key, 'item', 1) THEN
				ran := ARRAY(SELECT key WHERE (SELECT idem_stock_confirm('storm', key)));
			END IF;
		END CASE;
		IF random() < 0.1 THEN
			RAISE EXCEPTION 'changed its mind';
		END IF;
		INSERT INTO effect SELECT CASE how WHEN 'order' THEN 'order ' ELSE '' END || r, how FROM unnest(ran) r;
	EXCEPTION WHEN OTHERS THEN
		-- ID404: an order was confirmed by somebody else and purged since, of which the controls cannot know; the first storm has none
		IF SQLSTATE NOT IN ('ID404', 'ID410', 'ID409', 'P0001', '40001', '40P01') THEN
			RAISE;
		END IF;
		INSERT INTO said VALUES (SQLSTATE);
	END $$;
});

# storm(KEY_TIME, OPTIONS): runs it; the keys that ran twice.
sub storm
{
	my ($key_time, %options) = @_;
	my (@jobs, @files);

	$node->safe_psql('postgres', "TRUNCATE effect, said, idem.claim, idem.hold, idem.stock, idem.policy; SELECT idem_stock_add('item', 1000000),  idem_policy('storm', '300 milliseconds', '$key_time')");
	my $start = sub {
		my ($clients, $options, @scripts) = @_;
		my @arguments;
		for (@scripts)
		{
			my $file = File::Temp->new;
			print $file $_;
			close $file;
			push @files, $file;
			push @arguments, '-f', "$file";
		}
		my ($out, $err) = ('', '');
		local $ENV{PGOPTIONS} = $options . ' -c client_min_messages=error';
		push @jobs,
		  [ IPC::Run::start([ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '-h', $node->host, '-p', $node->port, @arguments, 'postgres' ], '>', \$out, '2>', \$err), \$err ];
	};
	for my $route (qw(off on))
	{
		$start->(2, "-c idem.force_sql=$route -c default_transaction_isolation=" . $_ =~ s/ /\\ /r, map { "SELECT storm('$_');\n" } qw(claim claim batch begin order))
		  for 'read committed', 'repeatable read', 'serializable';
	}
	$start->(1, '', "CALL idem_purge();\n", "CALL idem_purge(source => 'storm', batch => 5);\n");
	$start->(
		1, '',
		"SELECT idem_policy('storm', '50 milliseconds', '$key_time'); SELECT pg_sleep(0.05);\n",
		"SELECT idem_policy('storm', '1 second'); SELECT pg_sleep(0.02);\n",
		$options{without_mark} // "BEGIN; SELECT idem_policy_drop('storm'); SELECT idem_policy('storm', '400 milliseconds', '$key_time'); COMMIT;\n");
	my @lost = map { $_->[0]->finish ? () : ${ $_->[1] } } @jobs;
	is("@lost", '', "$key_time: nobody was lost");

	my $facts = $node->safe_psql('postgres', q{
		SELECT (SELECT count(*) FROM effect) || ' effects, ' || (SELECT count(*) FROM idem.claim) || ' on record, ' || (SELECT count(*) FROM said WHERE what = 'ID410') || ' gone'});
	note "$key_time: $facts";
	return split /\n/, $node->safe_psql('postgres', 'SELECT key || \': \' || string_agg(how, \' \') FROM effect GROUP BY key HAVING count(*) > 1');
}

is_deeply([ storm('unix') ], [], 'no key has run twice');
my ($effects, $kept, $gone) = split /\|/, $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM idem.claim), (SELECT count(*) FROM said WHERE what = 'ID410')});
cmp_ok($effects, '>', $kept, 'records were purged');
cmp_ok($gone, '>', 0, 'late retries were refused');
is($node->safe_psql('postgres', q{SELECT count(*) FROM said WHERE what = 'ID404'}), 0, 'an order that was purged is gone, not unknown');
cmp_ok(scalar storm('none'), '>', 0, 'control: without key_time keys run twice');
cmp_ok(scalar storm('unix', without_mark => "UPDATE idem.policy SET mark = '-infinity'; SELECT idem_policy('storm', '900 milliseconds');\n"),
	'>', 0, 'control: without the mark they do as well');

done_testing();
