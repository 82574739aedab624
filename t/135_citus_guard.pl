# In a database that has the extension "citus" no table of idem's is reached directly: on a worker, the empty shell of a distributed
# table has nothing by which it could be told from a table of ours. A session that has already gone directly follows at its next call.
# Here stands an extension of that name that is nothing but a schema, as citus makes some.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CopiedServer;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($installed, $extensions) = copied_server();
plan skip_all => 'citus itself is here: t/140 has it' if -e "$extensions/citus.control";
append_to_file("$extensions/citus.control", "default_version = '1'\nrelocatable = false\n");
append_to_file("$extensions/citus--1.sql", "CREATE SCHEMA citus_stub;\n");

$ENV{PATH} = "$installed/bin:$ENV{PATH}";
my $node = idem_node('main');

# the route that a session took: SQL keeps a plan
my %call = (
	claim => q{SELECT idem_claim('c', n::text), idem_claim('c', n::text) FROM (SELECT nextval('n') AS n) s},
	lock => q{SELECT idem_lock('l' || nextval('n'))},
	token_spent => q{SELECT idem_token_consume(idem_token_issue('c'), 'c')},
	hold => q{SELECT idem_stock_reserve('c', 'o' || nextval('n'), 'item', 1)});
sub route
{
	my ($session, $table) = @_;
	return $session->ask(
		"SELECT CASE WHEN count(*) > 0 THEN 'sql' ELSE 'direct' END FROM pg_backend_memory_contexts WHERE name ~ '^CachedPlan' AND ident LIKE 'INSERT INTO idem.$table (%'");
}

$node->safe_psql('postgres', q{CREATE SEQUENCE n; SELECT idem_stock_add('item', 1000)});
my %early = map { $_ => IdemTest::Session->new($node) } sort keys %call;
foreach my $table (sort keys %call)
{
	$early{$table}->ask($call{$table});
	is(route($early{$table}, $table), 'direct', "$table: directly, without citus");
}

$node->safe_psql('postgres', 'CREATE EXTENSION citus');
foreach my $table (sort keys %call)
{
	$early{$table}->ask($call{$table});
	is(route($early{$table}, $table), 'sql', "$table: through SQL from then on, in the same session");
	my $late = IdemTest::Session->new($node);
	$late->ask($call{$table});
	is(route($late, $table), 'sql', "$table: … and in a new one");
	$late->end;
}
is($early{claim}->ask($call{claim}), 't|f', 'with the same answers');

$node->safe_psql('postgres', 'DROP EXTENSION citus');
my $after = IdemTest::Session->new($node);
$after->ask($call{claim});
is(route($after, 'claim'), 'direct', 'directly again, without it');
$_->end foreach values %early, $after;
$node->stop;
done_testing();
