# ALTER EXTENSION UPDATE gives, object by object, what a fresh CREATE EXTENSION gives, and keeps every record. Until there is a second
# version the update is to 1.0.1, which exists here alone: 1.0 under another number. That the comparison sees differences is tested too.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CopiedServer;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($installed, $extensions) = copied_server();

my $script = slurp_file("$FindBin::RealBin/../idem--1.0.sql");
sub script { my ($version, $text) = @_; append_to_file("$extensions/idem--$version.sql", $text); return; }
script('1.0.1', $script);
script('1.0--1.0.1', "\\echo Use \"ALTER EXTENSION idem UPDATE TO '1.0.1'\" to load this file. \\quit\n");

# updates that forget something, or do something else
my %wrong = (
	'a function less' => 'ALTER EXTENSION idem DROP FUNCTION @extschema@.idem_cancel; DROP FUNCTION @extschema@.idem_cancel',
	'a function more' => q(CREATE FUNCTION @extschema@.idem_more() RETURNS int LANGUAGE sql AS 'SELECT 1'),
	'volatility' => 'ALTER FUNCTION @extschema@.idem_lookup STABLE',
	'a default' => q(CREATE OR REPLACE FUNCTION @extschema@.idem_lock(name pg_catalog.text, ttl pg_catalog."interval" DEFAULT '31 seconds') RETURNS pg_catalog.int8 AS 'MODULE_PATHNAME', 'idem_lock' LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE),
	'a privilege' => 'GRANT EXECUTE ON FUNCTION @extschema@.idem_forget TO PUBLIC',
	'a privilege on a table' => 'GRANT SELECT ON idem.claim TO PUBLIC',
	'a privilege on the schema' => 'GRANT USAGE ON SCHEMA idem TO PUBLIC',
	'a comment' => q(COMMENT ON FUNCTION @extschema@.idem_unlock IS 'something else'),
	'a comment on a table' => q(COMMENT ON TABLE idem.lock IS 'something else'),
	'a column' => 'ALTER TABLE idem.lock ADD COLUMN more pg_catalog.int4',
	'NOT NULL' => 'ALTER TABLE idem.lock ALTER COLUMN lease_until SET NOT NULL',
	'a collation' => 'ALTER TABLE idem.claim ALTER COLUMN source TYPE pg_catalog.text COLLATE pg_catalog."POSIX"',
	'an index' => 'CREATE INDEX more ON idem.claim (claimed_at)',
	'a table that is not dumped' => q(UPDATE pg_catalog.pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'idem'),
	'a storage parameter' => 'ALTER TABLE idem.claim SET (fillfactor = 50)',
	'another owner' => 'ALTER TABLE idem.stock OWNER TO somebody');
my $n = 0;
my %number = map { $_ => '1.0.1' . ++$n } sort keys %wrong;
script("1.0--$number{$_}", "$wrong{$_};\n") foreach keys %wrong;

my $node = PostgreSQL::Test::Cluster->new('main', install_path => $installed);
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE somebody');

# objects(DATABASE, FIRST): every member of the extension and all that there is to say of it, a line each, after FIRST, which is undone
sub objects
{
	my ($database, $first) = @_;

	return $node->safe_psql($database, 'BEGIN; SET LOCAL allow_system_table_mods = on; ' . ($first // '') . <<'SQL');
;
SET LOCAL search_path = pg_catalog;
CREATE TEMP VIEW member AS
	SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem');
CREATE TEMP VIEW relation AS
	SELECT c.* FROM pg_class c WHERE relnamespace = 'idem'::regnamespace;
SELECT line FROM (
	SELECT 'member ' || pg_describe_object(classid, objid, 0) FROM member
	UNION ALL SELECT format('function %s %s %s %s', p.oid::regprocedure, proowner::regrole, proacl, replace(pg_get_functiondef(p.oid), E'\n', ' ')) FROM pg_proc p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass
	UNION ALL SELECT format('schema %s %s %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace JOIN member ON objid = oid AND classid = 'pg_namespace'::regclass
	UNION ALL SELECT format('relation %s %s %s %s %s %s %s %s', r.oid::regclass, relkind, relowner::regrole, relacl, relpersistence, (SELECT amname FROM pg_am WHERE oid = relam), reloptions, relreplident) FROM relation r
	UNION ALL SELECT format('column %s %s %s %s %s %s %s %s %s', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull, attstorage, attacl, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
		FROM pg_attribute WHERE attrelid IN (SELECT oid FROM relation) AND attnum > 0
	UNION ALL SELECT format('index %s', pg_get_indexdef(oid)) FROM relation WHERE relkind = 'i'
	UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM relation)
	UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM relation)
	UNION ALL SELECT format('comment %s %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), description) FROM pg_description d JOIN member m ON m.classid = d.classoid AND m.objid = d.objoid
	UNION ALL SELECT format('dumped %s where %s', c::regclass, w) FROM pg_extension e, unnest(extconfig, extcondition) u (c, w) WHERE extname = 'idem'
	UNION ALL SELECT format('extension in %s', extnamespace::regnamespace) FROM pg_extension WHERE extname = 'idem'
) l (line) ORDER BY line COLLATE "C";
ROLLBACK;
SQL
}

# records(DATABASE): all of them
sub records
{
	my ($database) = @_;
	my $tables = $node->safe_psql($database, "SELECT relname FROM pg_class WHERE relnamespace = 'idem'::regnamespace AND relkind = 'r' ORDER BY 1");

	return join "\n", map { $node->safe_psql($database, "SELECT '$_', t.* FROM idem.$_ t ORDER BY 2, 3") } split /\n/, $tables;
}

sub fresh
{
	my ($database, $version) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION idem VERSION '$version'");
	return;
}

fresh('fresh', '1.0.1');
fresh('upgraded', '1.0');
$node->safe_psql('upgraded', <<'SQL');
SELECT idem_claim('web', '1'), idem_respond('web', '1', '{"a":  1}'), idem_begin('send', '1'), idem_lock('l'), idem_machine('m', 'a -> b');
SELECT idem_token_consume(idem_token_issue('form'), 'form'), idem_token_issue('form', '', max_issues => 3), idem_stock_add('apple', 7), idem_stock_reserve('cart', '1', 'apple', 2);
SQL
my $records = records('upgraded');
cmp_ok(scalar(() = $records =~ /\n/g), '>=', 7, 'records in every table');
$node->safe_psql('upgraded', "ALTER EXTENSION idem UPDATE TO '1.0.1'");
is($node->safe_psql('upgraded', "SELECT extversion FROM pg_extension WHERE extname = 'idem'"), '1.0.1', 'updated');
is(records('upgraded'), $records, 'every record is kept');
my $expected = objects('fresh');
cmp_ok(scalar(() = $expected =~ /^function /mg), '>', 30, 'the comparison has the functions');
cmp_ok(scalar(() = $expected =~ /^column /mg), '>', 50, '… the columns');
cmp_ok(scalar(() = $expected =~ /^comment /mg), '>', 30, '… and comments');
is(objects('upgraded'), $expected, 'every object is as a fresh install has it');
is($node->safe_psql('upgraded', "SELECT idem_claim('web', '1'), idem_claim('web', '2'), idem_response('web', '1')"), 'f|t|{"a":  1}', 'and it works');

# each wrong update is seen
fresh('wrong', '1.0');
is(objects('wrong'), $expected, 'before a wrong update nothing is seen');
foreach my $what (sort keys %wrong)
{
	isnt(objects('wrong', "ALTER EXTENSION idem UPDATE TO '$number{$what}'"), $expected, "seen: $what");
}

$node->stop;
done_testing();
