# 64 sessions want one key at the same moment, and half of the winners roll back: one effect for each key, and all
# are given the same answer, byte for byte. Directly, through SQL, and mixed; read committed and repeatable read.
# IDEM_STORM_KEYS: how many keys, one after the other.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $keys = $ENV{IDEM_STORM_KEYS} // 30;
my $clients = 64;
my $node = idem_node('storm');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE effect (run text, key integer, client integer);
CREATE TABLE answer (run text, key integer, client integer, body text);
CREATE TABLE bare (key text);
CREATE SEQUENCE met;
CREATE SEQUENCE given_up;
-- returns when all clients have called it for that key
CREATE FUNCTION meet(key integer, clients integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('met');
	WHILE clock_timestamp() < statement_timestamp() + interval '5 minutes' LOOP
		IF (SELECT last_value FROM met) >= key * clients THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.003);
	END LOOP;
	RAISE 'only % clients have come for key %', (SELECT last_value FROM met), key;
END $$;
-- two sessions claim one key after the other, each at the very same moment
CREATE PROCEDURE abreast(run text, who integer, keys integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..keys LOOP
		PERFORM nextval('met');
		-- without a pause, or one of them would always be first; but not for ever, if the other one has to wait for our processor
		FOR turn IN 1..1000000 LOOP
			EXIT WHEN (SELECT last_value FROM met) >= 2 * i;
			IF turn > 5000 THEN
				PERFORM pg_sleep(0.001);
			END IF;
		END LOOP;
		IF idem_claim(run, i::text) THEN
			INSERT INTO effect VALUES (run, i, who);
		END IF;
		COMMIT;
	END LOOP;
END $$;
-- what people write who have not raced
CREATE FUNCTION bare_claim(wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM bare WHERE key = wanted) THEN
		RETURN false;
	END IF;
	INSERT INTO bare VALUES (wanted);
	RETURN true;
END $$;
SQL

# storm(RUN, LEVEL, CLAIM): all clients at one key after the other; a winner may give up once, and then tries again; the
# first winner of every third key does.
# CLAIM is the expression that says whether the client has won.
sub storm
{
	my ($run, $level, $claim) = @_;
	my $work = <<"SCRIPT";
INSERT INTO effect VALUES ('$run', :n, :client_id);
SELECT idem_respond('$run', :n::text, format('{"by":  %s, "by": "%s" }', :client_id, repeat('\\u00e9', :client_id))::json)
	WHERE EXISTS (SELECT FROM idem_lookup('$run', :n::text) WHERE status = 'done');
SCRIPT
	$node->safe_psql('postgres', 'ALTER SEQUENCE met RESTART; ALTER SEQUENCE given_up RESTART');
	return clients($node, $clients, $keys, <<"SCRIPT", '-D', 'n=1', '--max-tries=1000');
\\set gives_up CASE WHEN :n % 3 = 1 THEN 1 ELSE random(0, 1) END
SELECT set_config('idem.force_sql', (CASE '$run' WHEN 'sql' THEN true WHEN 'mixed' THEN :client_id % 2 = 0 ELSE false END)::text, false);
SELECT meet(:n, $clients);
BEGIN ISOLATION LEVEL $level;
SELECT ($claim)::integer AS claimed \\gset
\\if :claimed = 1
$work\\endif
\\if :claimed = 1 and :gives_up = 1
SELECT nextval('given_up');
ROLLBACK;
BEGIN ISOLATION LEVEL $level;
SELECT ($claim)::integer AS claimed_again \\gset
\\if :claimed_again = 1
$work\\endif
\\endif
INSERT INTO answer SELECT '$run', :n, :client_id, idem_response('$run', :n::text)::text;
COMMIT;
\\set n :n + 1
SCRIPT
}

foreach my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	foreach my $run ('direct', 'sql', 'mixed')
	{
		$node->safe_psql('postgres', 'TRUNCATE effect, answer');
		storm($run, $level, "idem_claim('$run', :n::text)");
		is( $node->safe_psql('postgres', <<"SQL"),
SELECT count(*), count(DISTINCT key), (SELECT count(*) FROM idem.claim WHERE source = '$run') FROM effect
SQL
			"$keys|$keys|$keys",
			"$run, $level: one effect and one claim for each of $keys keys");
		is( $node->safe_psql('postgres', <<"SQL"),
SELECT count(*), count(DISTINCT (key, body)), bool_and(body = c.response::text
	AND body LIKE '{"by":  ' || e.client || ', %')
FROM answer JOIN effect e USING (key) JOIN idem.claim c ON c.source = '$run' AND c.seq = key::text
SQL
			$keys * $clients . "|$keys|t",
			"$run, $level: each of $clients clients has the winner's answer");
		cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM given_up'),
			'>', $keys / 4, "$run, $level: winners have given up");
		$node->safe_psql('postgres', "SELECT count(idem_forget(source, seq)) FROM idem.claim");
	}
}

# the moment between looking for a key and entering it into the index
foreach my $run ('direct', 'sql', 'mixed')
{
	my $steps = 20 * $keys;

	$node->safe_psql('postgres', 'TRUNCATE effect; ALTER SEQUENCE met RESTART');
	clients($node, 2, 1, <<"SCRIPT");
SET statement_timeout = '600s';
SELECT set_config('idem.force_sql', (CASE '$run' WHEN 'sql' THEN true WHEN 'mixed' THEN :client_id = 0 ELSE false END)::text, false);
CALL abreast('abreast $run', :client_id, $steps);
SCRIPT
	is( $node->safe_psql('postgres', <<"SQL"),
SELECT count(*), count(DISTINCT key), (SELECT count(*) FROM idem.claim WHERE source = 'abreast $run') FROM effect
SQL
		"$steps|$steps|$steps",
		"$run, abreast: one effect and one claim for each of $steps keys");
	note("$run, abreast: won by either client: ", $node->safe_psql('postgres', 'SELECT count(*) FROM effect GROUP BY client ORDER BY 1'));
}

# without idem: proof that there was something to lose
$node->safe_psql('postgres', 'TRUNCATE effect, answer');
storm('bare', 'READ COMMITTED', 'bare_claim(:n::text)');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM effect'),
	'>', $keys, 'select, then insert: the same storm makes doubles');

$node->stop;
done_testing();
