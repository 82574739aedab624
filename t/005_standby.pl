# A hot standby: the reading functions work and see what is replayed, the writing ones raise 25006. After promotion
# old keys are duplicates, new ones and those of transactions that never ended are free.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$primary->start;
$primary->safe_psql('postgres', <<'SQL');
CREATE EXTENSION idem;
CREATE TABLE effect (what text);
CREATE FUNCTION work(request json) RETURNS json LANGUAGE sql AS $$
	INSERT INTO effect VALUES ('worked') RETURNING '{"done":  1}'::json
$$;
SELECT idem_claim('web', 'before'), idem_respond('web', 'before', '["a",   1]');
SQL
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', q(SELECT FROM idem_begin('sms', 'running', '1 hour')));
$primary->safe_psql('postgres', q(SELECT idem_claim('web', 'later'), idem_respond('web', 'later', '{"b" : 2}')));
my $open = IdemTest::Session->new($primary);
$open->ask(q(BEGIN; SELECT idem_claim('web', 'uncommitted')));
$primary->safe_psql('postgres', q(BEGIN; SELECT idem_claim('web', 'prepared'); PREPARE TRANSACTION 'p'));
$primary->wait_for_catchup($standby);

is( $standby->safe_psql('postgres', <<'SQL'),
SELECT idem_response('web', 'before'), idem_response('web', 'later'), idem_response('web', 'none') IS NULL;
SELECT status, fence, response FROM idem_lookup('web', 'later');
SELECT status IS NULL FROM idem_lookup('web', 'uncommitted');
SELECT status IS NULL FROM idem_lookup('web', 'prepared');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idem_response('web', 'before');
SQL
	qq(["a",   1]|{"b" : 2}|t\ndone|0|{"b" : 2}\nt\nt\n["a",   1]), 'reading functions see what is replayed');
is( $standby->safe_psql('postgres', <<'SQL'),
SET idem.force_sql = on;
SELECT idem_response('web', 'before'), status FROM idem_lookup('web', 'later');
SQL
	'["a",   1]|done', '… through SQL too');

is($standby->safe_psql('postgres', "SET idem.force_sql = $_; SELECT source, seq, status, fence FROM idem_unsettled()"), 'sms|running|running|1', "force_sql $_: what is unsettled is listed")
  foreach qw(off on);

foreach my $call (
	q(SELECT * FROM idem_handle('web', 'new', 'work', '{}')),
	q(SELECT * FROM idem_begin_batch('web', ARRAY['new'])),
	q(SELECT idem_claim('web', 'new')),
	q(SELECT idem_claim('web', 'before')),
	q(SELECT idem_claim('web', 'new', wait => false)),
	q(SELECT * FROM idem_claim_batch('web', ARRAY['new'])),
	q(SELECT idem_respond('web', 'before', '1')),
	q(SELECT idem_call('web', 'new', 'work', '{}')),
	q(SELECT idem_call('web', 'before', 'work', '{}')),
	q(SELECT idem_cancel('web', 'new')),
	q(SELECT idem_forget('web', 'before')),
	q(CALL idem_purge('1 microsecond')))
{
	is(sqlstate($standby, $call), '25006', "$call on a standby");
	is(sqlstate($standby, "SET idem.force_sql = on; $call"), '25006', '… through SQL') unless $call =~ /^CALL/;
	is(sqlstate($primary, "BEGIN READ ONLY; $call"), '25006', '… in a read-only transaction') unless $call =~ /^CALL/;
}

# replayed while it is being read
$primary->safe_psql('postgres', q(SELECT idem_forget('web', 'later'), idem_cancel('web', 'cancelled')));
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q(SELECT status IS NULL FROM idem_lookup('web', 'later'); SELECT status FROM idem_lookup('web', 'cancelled'))),
	"t\ncancelled", 'what is forgotten and cancelled is so on the standby');

# a table that is unlogged is not there on a standby: core's word, on either route
$primary->safe_psql('postgres', 'CREATE DATABASE unlogged');
$primary->safe_psql('unlogged', 'CREATE EXTENSION idem; ALTER TABLE idem.claim SET UNLOGGED');
$primary->wait_for_catchup($standby);
is(sqlstate($standby, "\\c unlogged\n\\set VERBOSITY sqlstate\nSET idem.force_sql = $_; SELECT idem_response('web', '1')"), '0A000', "an unlogged table, force_sql $_") foreach qw(off on);

# failover: the primary is gone with its open transaction
$primary->stop('immediate');
$open->end;
$standby->promote;
is( $standby->safe_psql('postgres', <<'SQL'),
SELECT idem_claim('web', 'before'), idem_response('web', 'before');
SELECT idem_claim('web', 'cancelled'), idem_claim('web', 'later'), idem_claim('web', 'uncommitted'), idem_claim('web', 'new');
SELECT idem_call('web', 'call', 'work', '{}'), idem_call('web', 'call', 'work', '{}');
SELECT count(*) FROM effect;
SQL
	qq(f|["a",   1]\nf|t|t|t\n{"done":  1}|{"done":  1}\n1), 'promoted: old keys are duplicates, the others are free');
is(sqlstate($standby, q(SELECT idem_claim('web', 'prepared', wait => false))), 'ID409', 'promoted: a prepared claim is held');
is($standby->safe_psql('postgres', q(COMMIT PREPARED 'p'; SELECT idem_claim('web', 'prepared'))), 'f', '… and done once it is committed');

$standby->stop;
done_testing();
