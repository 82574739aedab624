# Pins contrib/monitoring: every query runs as a role that may only watch, and yields just the columns that its exporter names;
# the dashboard and the alerts ask for no metric that is not there.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = "$FindBin::RealBin/../contrib/monitoring";
my $node = idem_node('monitoring', "shared_preload_libraries = 'idem'");

$node->safe_psql('postgres', <<'SQL');
SELECT idem_claim('web', '1'), idem_claim('web', '1');
SELECT status FROM idem_begin('mail', '1');
SELECT status FROM idem_begin('mail', '2', '1 millisecond');
SELECT idem_lock('nightly') IS NOT NULL;
SELECT idem_token_issue('form');
SELECT idem_stock_add('bolt', 10), idem_stock_reserve('web', '1', 'bolt', 2);
CALL idem_purge('1 hour');
CALL idem_stock_expire();
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
SQL

# columns(QUERY): how many rows it has for the watcher, and the names of its columns.
sub columns
{
	my ($query) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-U', 'watcher', '-P', 'tuples_only=off', '-P', 'footer=off' ]);

	return ("failed: $err", []) if $status != 0 || $err ne '';
	my ($head, @rows) = split /\n/, $out;
	return (scalar @rows, [ split /\|/, $head ]);
}

# block(LINES, INDENT): the lines that are indented more, without that.
sub block
{
	my ($lines, $indent) = @_;
	my @block;

	while (@$lines && ($lines->[0] =~ /^$/ || $lines->[0] =~ /^$indent /))
	{
		push @block, shift @$lines;
	}
	return join "\n", @block;
}

# postgres_exporter: a metric for each column that is no label
my (%metrics, %queries);
my @lines = split /\n/, slurp_file("$directory/postgres_exporter.yaml");
my ($name, $query, %kinds);

sub check_query
{
	return unless defined $name;
	my ($rows, $columns) = columns($query);

	is_deeply([ sort @$columns ], [ sort keys %kinds ], "postgres_exporter: $name has the columns that are named")
	  or diag $rows;
	cmp_ok($rows, '>', 0, "… and rows") if $name ne 'idem_unsettled';
	$metrics{"${name}_$_"} = $kinds{$_} foreach grep { $kinds{$_} ne 'LABEL' } keys %kinds;
	$queries{$name} = $query =~ s/\s+/ /gr;
	return;
}
while (@lines)
{
	my $line = shift @lines;

	if ($line =~ /^(\w+):$/) { check_query(); ($name, $query, %kinds) = ($1); }
	elsif ($line =~ /^(\s+)query: \|$/) { $query = block(\@lines, $1); }
	elsif ($line =~ /^\s+- (\w+): \{ usage: "(\w+)", description: ".+" \}$/) { $kinds{$1} = $2; }
	elsif ($line !~ /^(?:#.*|\s*metrics:|)$/) { fail("postgres_exporter.yaml: $line"); }
}
check_query();
cmp_ok(scalar keys %metrics, '>', 10, 'metrics of postgres_exporter');

# sql_exporter: the same metrics, from the same queries
my (%same, @labels, $metric, %of);
@lines = split /\n/, slurp_file("$directory/sql_exporter.collector.yml");
while (@lines)
{
	my $line = shift @lines;

	if ($line =~ /^  - metric_name: (\w+)$/) { $metric = $1; }
	elsif ($line =~ /^    type: (\w+)$/) { $same{$metric} = uc $1; }
	elsif ($line =~ /^    key_labels: \[(.+)\]$/) { @labels = split /, /, $1; }
	elsif ($line =~ /^    values: \[(\w+)\]$/) { $of{$metric} = [ $1, @labels ]; }
	elsif ($line =~ /^    query_ref: (\w+)$/)
	{
		my (undef, $columns) = columns($queries{$1});
		is("$1_$of{$metric}[0]", $metric, "sql_exporter: $metric is called as by postgres_exporter");
		is((grep { my $column = $_; !grep { $_ eq $column } @$columns } @{ $of{$metric} }), 0, '… and its query has value and labels');
	}
	elsif ($line =~ /^  - query_name: (\w+)$/) { $name = $1; }
	elsif ($line =~ /^(\s+)query: \|$/) { is(block(\@lines, $1) =~ s/\s+/ /gr, $queries{$name}, "sql_exporter: query $name is the same"); }
}
is_deeply(\%same, \%metrics, 'sql_exporter has the metrics of postgres_exporter');

# known(WHAT, EXPRESSION): asks for metrics that are there.
sub known
{
	my ($what, $expression) = @_;
	my @asked = $expression =~ /\b(idem_\w+)/g;

	ok(@asked && !grep({ !$metrics{$_} } @asked), "$what: $expression");
	return;
}

my $dashboard = decode_json(slurp_file("$directory/grafana.json"));
foreach my $panel (@{ $dashboard->{panels} })
{
	known("panel $panel->{title}", $_->{expr}) foreach @{ $panel->{targets} };
}
foreach my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} })
{
	known("variable $variable->{name}", $variable->{query});
}

my $alerts = slurp_file("$directory/alerts.yaml");
my $rules = 0;
while ($alerts =~ /^      - alert: (\w+)\n        expr: (.+)\n/mg)
{
	known("alert $1", $2);
	$rules++;
}
is($rules, () = $alerts =~ /\balert:/g, 'every alert was looked at');

# outcomes and kinds that they select are those of the view
my %outcomes = map { $_ => 1 } 'first', 'duplicate', 'other request', 'busy', 'gone', 'granted', 'taken over', 'expired', 'completed', 'failed',
  'stale', 'refused', 'lost', 'issued', 'consumed', 'limited', 'reserved', 'short', 'confirmed', 'released', 'runs', 'rows';
my $all = $alerts . join "\n", map { map { $_->{expr} } @{ $_->{targets} } } @{ $dashboard->{panels} };
while ($all =~ /outcome[=!]~?"([^"]+)"/g)
{
	is(join(',', grep { !$outcomes{$_} } split /\|/, $1), '', "outcome $1");
}

$node->stop;
done_testing();
