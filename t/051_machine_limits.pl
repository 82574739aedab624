# The largest machines there may be: they are defined, compiled and drawn, every call can be cancelled on its way, and a cancelled
# call leaves the session and the machine as they were.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem');

# One cycle through all states, a chain with every step over several, and names as long as they may be.
$node->safe_psql('postgres', q{
	CREATE TABLE definitions (name text, transitions int, definition text);
	INSERT INTO definitions SELECT 'ring', 4096, string_agg('s' || i, ' -> ' ORDER BY i) || ' -> s1' FROM generate_series(1, 4096) i;
	INSERT INTO definitions SELECT 'full', 65536, string_agg(format('s%s -> s%s', 1 + i % 4096, 1 + (i * 7 + i / 4096) % 4096), ';')
		FROM generate_series(0, 65535) i;
	INSERT INTO definitions SELECT 'long', 16384, string_agg(format('%s -> %s', rpad('s' || 1 + i % 4096, 255, 'x'),
		rpad('s' || 1 + (i + 1 + i / 4096) % 4096, 255, 'x')), E'\n') FROM generate_series(0, 16383) i;
});

$node->safe_psql('postgres', q{SELECT idem_machine('tiny', 'a -> b')});

my $session = warm_session();

# A session that has loaded what it needs, so that the time goes where it is meant to go.
sub warm_session
{
	my $new = $node->background_psql('postgres', on_error_stop => 0);

	$new->query(q{DO $$ BEGIN PERFORM idem_verdict('tiny', 'a', 'b'); END $$});
	return $new;
}

# What a statement answers in the one session, or how it fails; timeout in ms.
sub answer
{
	my ($sql, $timeout) = @_;
	my $statement = $sql =~ s/'/''/gr;

	return $session->query(qq{SELECT set_config('test.answer', 'cancelled', false);
		SET statement_timeout = $timeout;
		DO \$\$ BEGIN EXECUTE '$statement'; PERFORM set_config('test.answer', 'done', false);
			EXCEPTION WHEN query_canceled THEN NULL; END \$\$;
		-- the first one has no more time than what it follows, nor has the next if that is cancelled
		RESET statement_timeout;
		RESET statement_timeout;
		RESET statement_timeout;
		RESET statement_timeout;
		RESET statement_timeout;
		SELECT current_setting('test.answer');}) =~ s/^.*\n//sr;
}

foreach my $name ('ring', 'full', 'long')
{
	my $define = "SELECT idem_machine(name, definition) FROM definitions WHERE name = '$name'";
	my $state = $name eq 'long' ? q{rpad('s1', 255, 'x')} : q{'s1'};
	my $other = $name eq 'long' ? q{rpad('s2', 255, 'x')} : q{'s2'};

	# from at once to longer than it takes; the last one decides
	my @ended = map { answer($define, $_) } 1, 2, 3, 5, 8, 13, 21;
	is((grep { $_ eq 'cancelled' || $_ eq 'done' } @ended) + 0, scalar @ended, "$name: defined or cancelled, nothing else");
	is($ended[0], 'cancelled', "$name: a definition is cancelled");
	is(answer($define, 0), 'done', "$name: and is made if it is not");
	is( $node->safe_psql('postgres', "SELECT idem_machine(name, definition) = transitions, (SELECT count(*) FROM idem.transition WHERE machine = name) = transitions
			FROM definitions WHERE name = '$name'"),
		't|t', "$name: the same again is no other");

	# each in a session that has not compiled it
	$session->quit;
	$session = warm_session();
	is(answer("SELECT idem_verdict('$name', $state, $other)", 1), 'cancelled', "$name: compiling is cancelled");
	is($session->query("SELECT idem_verdict('$name', $state, $state), idem_verdict('$name', NULL, $state)"), 'same|ahead', "$name: and done at the next call");
	is(answer("SELECT idem_machine_graph('$name')", 1), 'cancelled', "$name: drawing is cancelled");
	is($session->query("SELECT count(*) > 4096 FROM regexp_split_to_table(idem_machine_graph('$name'), '\n')"), 't', "$name: and done");
}

# A definition may be long without being large, and a text of 16 MB that is none is refused at its place.
is( $session->query(q{SELECT idem_machine('again', 'a -> b' || repeat(E'\na -> b', 1000000))}),
	'1', 'a million times the same transition');
$session->query(q{CREATE FUNCTION refused(definition text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE detail text;
	BEGIN
		PERFORM idem_machine('refused', definition);
		RETURN 'taken';
	EXCEPTION WHEN invalid_parameter_value THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN detail;
	END $$});
is($session->query(q{SELECT refused(repeat('a -> ', 3000000))}), 'Expected a state at character 15000001, where the definition ends.', 'the place in a long one');
is($session->query(q{SELECT refused(repeat('x', 16000000))}), 'The state at character 1 has 16000000 bytes; the limit is 255 bytes.', 'a name without end');

$session->quit;
$node->stop;
done_testing();
