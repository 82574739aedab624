# Pins the examples: every ```sql block of README.md and doc/*.md that is followed by a ```text block is run as a newcomer
# would run it, file by file in one session from top to bottom, and must print just what is shown.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The answer of a session that is given some SQL, white space at the ends of lines left out.
sub psql_prints
{
	my ($node, $database, $sql) = @_;
	my $output = '';

	IPC::Run::run [
		'psql', '--no-psqlrc', '--quiet', '--no-password', '--dbname',
		$node->connstr($database), '--set', 'VERBOSITY=default'
	  ],
	  '<', \$sql, '>', \$output, '2>&1';
	return $output;
}

sub trimmed
{
	my ($text) = @_;

	$text =~ s/[ \t]+$//mg;
	$text =~ s/\n+/\n/g;
	$text =~ s/^\n|\n$//g;
	return $text;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\nshared_preload_libraries = 'idem'");
$node->start;

my $examples = 0;
foreach my $file ('README.md', sort glob('doc/*.md'))
{
	my $text = slurp_file($file);
	my $database = 'docs_' . lc($file =~ s/\W+/_/gr);
	my (@sql, @expected, $session);

	while ($text =~ /^```sql\n(.*?)^```\n+```text\n(.*?)^```\n/msg)
	{
		push @sql, $1;
		push @expected, $2;
	}
	next unless @sql;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION idem');

	# one session, its output cut up again at marks
	$session = join('', map { "$_\n\\echo <<<end of example>>>\n" } @sql);
	my @printed = split /<<<end of example>>>\n/,
	  psql_prints($node, $database, $session);

	for my $i (0 .. $#sql)
	{
		my ($first) = $sql[$i] =~ /^(.*)$/m;

		is(trimmed($printed[$i] // ''), trimmed($expected[$i]),
			"$file, example " . ($i + 1) . ": $first");
		$examples++;
	}
}
cmp_ok($examples, '>', 0, 'there are examples');

$node->stop;
done_testing();
