# What the stock tests share: a server, the books of an item as an SQL function, and pgbench.

package StockBooks;

use strict;
use warnings;

use Exporter 'import';
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(stock_server books pgbench percentile);

# A server with idem in it, whose settings may be given.
sub stock_server
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', join("\n", 'max_connections = 120', 'max_prepared_transactions = 10', "deadlock_timeout = '20ms'", @settings) . "\n");
	$node->start;
	$node->safe_psql('postgres', <<'END');
CREATE EXTENSION idem;
-- one snapshot: available + held + confirmed = added, nothing below zero
CREATE FUNCTION books(which text, added numeric) RETURNS text LANGUAGE sql AS $$
	WITH s AS (SELECT coalesce(sum(quantity), 0) AS q, coalesce(min(quantity), 0) AS low FROM idem.stock WHERE item = which),
	h AS (SELECT coalesce(sum(t.q), 0) AS taken, count(*) FILTER (WHERE t.q < 0) AS bad
		FROM idem.hold, unnest(items, quantities) AS t (i, q) WHERE status IN ('h', 'c') AND t.i = which)
	SELECT CASE WHEN q + taken = added AND low >= 0 AND bad = 0 THEN 'balance'
		ELSE format('%s available, lowest %s, %s taken, %s added', q, low, taken, added) END FROM s, h $$;
END
	return $node;
}

# The verdict on an item's books.
sub books
{
	my ($node, $item, $added) = @_;

	return $node->safe_psql('postgres', "SELECT books('$item', $added)");
}

# Runs pgbench with the scripts given, each [text, weight]; answers what it printed. Dies unless it succeeds.
sub pgbench
{
	my ($node, $options, @scripts) = @_;
	my @files;

	foreach my $script (@scripts)
	{
		my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';

		append_to_file($file, $script->[0]);
		push @files, '-f', "$file\@" . ($script->[1] // 1);
	}
	my ($stdout, $stderr) = run_command(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, @$options, @files, 'postgres' ]);
	die "pgbench: $stderr" if $stderr =~ /error|aborted/i;
	return $stdout;
}

# The value below which a share of the numbers lies; undefined, if there are none.
sub percentile
{
	my ($share, @numbers) = @_;

	@numbers = sort { $a <=> $b } @numbers;
	return $numbers[ int($share * $#numbers) ];
}

1;
