# Tokens on a hot standby: issuing and the status work there, what writes raises 25006; a token is good wherever it was
# issued, and a new key is followed at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION idem');
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# replayed to where the primary is
sub catch_up { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')); return; }

# SQLSTATE of a statement, '' for none
sub sqlstate
{
	my ($node, $sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", on_error_stop => 0);
	return $stderr =~ /ERROR:  (\w{5})/ ? $1 : $stderr;
}

for my $force_sql ('off', 'on')
{
	for my $node ($primary, $standby)
	{
		$node->append_conf('postgresql.conf', "idem.force_sql = $force_sql");
		$node->reload;
		$node->poll_query_until('postgres', "SELECT current_setting('idem.force_sql', true) = '$force_sql'");
	}

	my $token = $standby->safe_psql('postgres', "SELECT idem_token_issue('form', 'alice')");
	like($token, qr/^[A-Za-z0-9_-]{88}$/, "issued on the standby ($force_sql)");
	is($standby->safe_psql('postgres', "SELECT idem_token_status('$token', 'form', 'alice')"), 'live', 'live there');
	is($standby->safe_psql('postgres', "SELECT idem_token_status('$token', 'form', 'bob')"), 'invalid', 'bound to its subject');

	is(sqlstate($standby, "SELECT idem_token_consume('$token', 'form', 'alice')"), '25006', 'consume');
	is(sqlstate($standby, "SELECT idem_token_consume('no token', 'form', 'alice')"), '25006', 'consume of anything');
	is(sqlstate($standby, "SELECT idem_token_rotate('$token', 'form', 'alice')"), '25006', 'rotate');
	is(sqlstate($standby, "SELECT idem_token_issue('form', max_issues => 1)"), '25006', 'issue with a limit');
	is(sqlstate($standby, 'SELECT idem_token_rekey()'), '25006', 'rekey');

	is($primary->safe_psql('postgres', "SELECT idem_token_consume('$token', 'form', 'alice')"), 't', 'consumed on the primary');
	is($primary->safe_psql('postgres', "SELECT idem_token_consume('$token', 'form', 'alice')"), 'f', 'once');
	catch_up();
	is($standby->safe_psql('postgres', "SELECT idem_token_status('$token', 'form', 'alice')"), 'used', 'used on the standby');

	# a new key on the primary signs on the standby
	my $old = $standby->safe_psql('postgres', "SELECT idem_token_issue('form')");
	$primary->safe_psql('postgres', 'SELECT idem_token_rekey()');
	catch_up();
	my $new = $standby->safe_psql('postgres', "SELECT idem_token_issue('form')");
	isnt(substr($new, 1, 12), substr($old, 1, 12), 'the new key signs on the standby');
	is($primary->safe_psql('postgres', "SELECT idem_token_consume('$old', 'form'), idem_token_consume('$new', 'form')"),
		't|t', 'tokens of both are good on the primary');
}

# one session of the standby, over a rekeying
my ($stdin, $stdout, $stderr, $timer) = ('', '', '', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $standby->connstr('postgres') ], '<', \$stdin, '>', \$stdout, '2>', \$stderr, $timer);
$stdin .= "SELECT idem_token_issue('form');\n";
pump $psql until $stdout =~ /^\S{88}\n$/ || $timer->is_expired;
my $before = substr($stdout, 0, 88);
$primary->safe_psql('postgres', 'SELECT idem_token_rekey()');
catch_up();
$stdout = '';
$stdin .= "SELECT idem_token_issue('form');\n";
pump $psql until $stdout =~ /^\S{88}\n$/ || $timer->is_expired;
my $after = substr($stdout, 0, 88);
isnt(substr($after, 1, 12), substr($before, 1, 12), 'an open session follows at its next call');
$stdin .= "\\q\n";
finish $psql;

# promoted: what was issued and consumed before keeps its meaning
my $live = $standby->safe_psql('postgres', "SELECT idem_token_issue('form')");
my $used = $primary->safe_psql('postgres', "SELECT idem_token_issue('form')");
$primary->safe_psql('postgres', "SELECT idem_token_consume('$used', 'form')");
catch_up();
$primary->stop;
$standby->promote;
is($standby->safe_psql('postgres', "SELECT idem_token_consume('$live', 'form'), idem_token_consume('$used', 'form')"), 't|f',
	'after a failover');

done_testing();
