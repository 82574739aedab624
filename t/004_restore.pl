# pg_dump and restore: every key is still a duplicate, its answer the same byte for byte, its owner and the digest of
# its request kept; whole dumps, plain and custom, and in parts. And what happens when a role is missing, renamed or dropped.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = idem_node('restore');
my $dir = PostgreSQL::Test::Utils::tempdir();
my @at = ('-h', $node->host, '-p', $node->port);

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE "Bob's role";
CREATE ROLE alice;
CREATE ROLE gone;
SET SESSION AUTHORIZATION alice;
SELECT idem_claim('shop', k::text, format('{"n": %s, "list": [1.50, null, "x"]}', k)::jsonb) FROM generate_series(1, 200) k;
-- white space, repeated keys, escapes, what COPY has to quote, and what is stored out of line
SELECT idem_respond('shop', '1', E'  {"b":1,\t"a" : 2, "a":\n\n3 }  ');
SELECT idem_respond('shop', '2', E'"\\u00e9 é \\\\ \\n \\u2028 \U0001F600"');
SELECT idem_respond('shop', '3', ('"' || repeat(md5('x'), 5000) || '"')::json);
SELECT idem_respond('shop', '4', 'null');
SELECT idem_respond('shop', '5', '1.500e0');
SELECT idem_claim(E'tab\t back\\ line\n quote'' "', E'\\N \\. \U0001F600', 'null');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION "Bob's role";
SELECT idem_claim('bob', '1'), idem_respond('bob', '1', '"for Bob"'), idem_cancel('bob', '2');
RESET SESSION AUTHORIZATION;
INSERT INTO idem.claim VALUES ('attempt', 'running', 10, 'r', 7, now(), NULL, now() + '1 hour');
INSERT INTO idem.claim VALUES ('attempt', 'open', 10, 'o', 3, now());
INSERT INTO idem.claim VALUES ('attempt', 'failed', 10, 'f', 2, now(), now(), NULL, NULL, '{"no" : 1}');
SQL

# whole(DATABASE): all of the table, as COPY in binary has it
sub whole
{
	my ($database) = @_;
	my $file = "$dir/$database.copy";

	unlink $file;
	$node->safe_psql($database, "COPY (SELECT * FROM idem.claim ORDER BY source, seq) TO '$file' (FORMAT binary)");
	return unpack('H*', slurp_file($file));
}

# restored(DATABASE, WHAT): is it all there, and does it work?
sub restored
{
	my ($database, $what) = @_;

	is(whole($database), whole('postgres'), "$what: the table is the same, byte for byte");
	is( $node->safe_psql($database, <<'SQL'),
SET ROLE alice;
SELECT count(*) FILTER (WHERE idem_claim('shop', k::text)), count(*) FROM generate_series(1, 200) k;
SELECT idem_claim('shop', '7', '{"list": [1.5, null, "x"], "n": 7}'), idem_claim(E'tab\t back\\ line\n quote'' "', E'\\N \\. \U0001F600');
SELECT md5(idem_response('shop', '1')::text) = md5(E'  {"b":1,\t"a" : 2, "a":\n\n3 }  ');
SET ROLE "Bob's role";
SELECT idem_claim('bob', '1'), idem_response('bob', '1'), idem_cancel('bob', '1'), idem_claim('bob', '2');
RESET ROLE;
SELECT status, fence FROM idem_lookup('attempt', 'running');
SELECT idem_claim('attempt', 'failed'), idem_claim('attempt', 'open'), idem_claim('shop', '201');
SQL
		"0|200\nf|f\nt\nf|\"for Bob\"|done|f\nrunning|7\nf|t|t",
		"$what: duplicates are duplicates, and what was not done can be");
	my @refused = (
		[ 'ID422', q(SET ROLE alice; SELECT idem_claim('shop', '7', '{"n": 8}')) ],
		[ 'ID412', q(SET ROLE alice; SELECT idem_respond('shop', '1', '{"b":1, "a":3}')) ],
		[ '42501', q(SET ROLE alice; SELECT idem_response('bob', '1')) ],
		[ '42501', q(SET ROLE alice; SELECT idem_claim('bob', '2')) ],
		[ 'ID409', q(SELECT idem_claim('attempt', 'running')) ]);
	is_deeply(
		[ map { sqlstate($node, "\\c $database\n\\set VERBOSITY sqlstate\n$_->[1]") } @refused ],
		[ map { $_->[0] } @refused ],
		"$what: requests, answers, owners and attempts are compared");
	return;
}

sub fresh { $node->safe_psql('postgres', "CREATE DATABASE $_[0] TEMPLATE template0"); return; }

# whole dumps
command_ok([ 'pg_dump', @at, '-Fp', '-f', "$dir/plain.sql", 'postgres' ], 'dump, plain');
command_ok([ 'pg_dump', @at, '-Fc', '-f', "$dir/custom.dump", 'postgres' ], 'dump, custom');
fresh('plain');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @at, '-f', "$dir/plain.sql", 'plain' ], 'restore, plain');
restored('plain', 'plain');
fresh('custom');
command_ok([ 'pg_restore', @at, '-e', '-d', 'custom', "$dir/custom.dump" ], 'restore, custom');
restored('custom', 'custom');
fresh('jobs');
command_ok([ 'pg_restore', @at, '-e', '-j', '2', '-d', 'jobs', "$dir/custom.dump" ], 'restore, custom, two jobs');
restored('jobs', 'two jobs');

# in parts: sections, and the data alone into a database that has the extension
fresh('sections');
foreach my $section ('pre-data', 'data', 'post-data')
{
	command_ok([ 'pg_dump', @at, "--section=$section", '-f', "$dir/$section.sql", 'postgres' ], "dump, $section");
	command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @at, '-f', "$dir/$section.sql", 'sections' ], "restore, $section");
}
restored('sections', 'sections');
fresh('data');
$node->safe_psql('data', 'CREATE EXTENSION idem');
command_ok([ 'pg_dump', @at, '--data-only', '--inserts', '-f', "$dir/data.sql", 'postgres' ], 'dump, data only, as inserts');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @at, '-f', "$dir/data.sql", 'data' ], 'restore, data only');
restored('data', 'data only');

# the schema alone has no keys
fresh('bare');
command_ok([ 'pg_dump', @at, '--schema-only', '-f', "$dir/schema.sql", 'postgres' ], 'dump, schema only');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @at, '-f', "$dir/schema.sql", 'bare' ], 'restore, schema only');
is($node->safe_psql('bare', 'SELECT count(*) FROM idem.claim'), 0, 'schema only: no keys');

# owners are names: a role that is missing where the dump is restored hinders nothing, and its keys are nobody's until there is one
$node->safe_psql('postgres', 'ALTER ROLE alice RENAME TO alicia');
fresh('missing');
command_ok([ 'pg_restore', @at, '-e', '-d', 'missing', "$dir/custom.dump" ], 'restore without one of the roles');
is($node->safe_psql('missing', q{SELECT count(*) FROM idem.claim WHERE owner = 'alice'}), 201, '… has its keys');
is(sqlstate($node, qq{\\c missing\n\\set VERBOSITY sqlstate\nSET ROLE "Bob's role"; SELECT idem_claim('shop', '1')}), '42501', '… which are not for others');
is($node->safe_psql('missing', q{SELECT idem_claim('shop', '1')}), 'f', '… but for a superuser');
$node->safe_psql('postgres', 'CREATE ROLE alice');
is($node->safe_psql('missing', q{SET ROLE alice; SELECT count(*) FILTER (WHERE idem_claim('shop', k::text)) FROM generate_series(1, 200) k}),
	0, 'they belong to whoever has the name');

# a role that was renamed has its keys once they are reassigned
is(sqlstate($node, q{SET ROLE alicia; SELECT idem_claim('shop', '1')}), '42501', 'a renamed role does not have its keys');
is($node->safe_psql('postgres', q{SELECT idem_reassign('alice', 'alicia') > 200; SET ROLE alicia; SELECT idem_claim('shop', '1')}), "t\nf", '… until they are reassigned');

# one that was dropped and made again has them, here and in a copy
$node->safe_psql('postgres', q{SET SESSION AUTHORIZATION gone; SELECT idem_claim('gone', '1')});
$node->safe_psql('postgres', 'DROP ROLE gone');
command_ok([ 'pg_dump', @at, '-Fc', '-f', "$dir/dropped.dump", 'postgres' ], 'dump with keys of a role that was dropped');
fresh('dropped');
command_ok([ 'pg_restore', @at, '-e', '-d', 'dropped', "$dir/dropped.dump" ], 'restore');
is(whole('dropped'), whole('postgres'), 'keys of a dropped role: the table is the same');
is(sqlstate($node, qq{\\c dropped\n\\set VERBOSITY sqlstate\nSET ROLE alicia; SELECT idem_claim('gone', '1')}), '42501', '… and they are nobody\'s');
$node->safe_psql('postgres', 'CREATE ROLE gone');
is($node->safe_psql('dropped', q{SET ROLE gone; SELECT idem_claim('gone', '1')}), 'f', '… until there is a role of that name');
is($node->safe_psql('dropped', q{SELECT idem_forget('gone', '1')}), 't', 'the administrator can forget them');

$node->stop;
done_testing();
