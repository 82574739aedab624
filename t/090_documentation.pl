# Pins the manual: README.md, doc/*.md and doc/recipes/*.md. Every ```sql block is run as a newcomer would run it, file by file in one
# session from top to bottom, and prints just what the ```text block after it shows, or nothing if there is none. No page names a
# function, argument, option, error or link that is not there, every function is on a page, and the pages have their sizes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Pages that are generated or read from end to end: they may be longer than the others.
my %long = map { $_ => 1 } qw(doc/reference.md doc/performance-statements.md);

my @pages = ('README.md', glob('doc/*.md doc/recipes/*.md'));
my %text = map { $_ => slurp_file($_) } @pages, 'llms.txt';

# what script/bench writes is run by script/bench
my %hand = map { $_ => $text{$_} =~ s/<!-- bench: (?!end).*?<!-- bench: end -->//gsr } keys %text;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\nshared_preload_libraries = 'idem'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE catalog');
$node->safe_psql('catalog', 'CREATE EXTENSION idem');

examples();
names();
links();
sizes();

$node->stop;
done_testing();

# The answer of a session that is given some SQL, white space at the ends of lines left out.
sub psql_prints
{
	my ($database, $sql) = @_;
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
	my ($shown) = @_;

	$shown =~ s/[ \t]+$//mg;
	$shown =~ s/\n+/\n/g;
	$shown =~ s/^\n|\n$//g;
	return $shown;
}

sub examples
{
	my $examples = 0;

	foreach my $file (@pages)
	{
		my $database = 'docs_' . lc($file =~ s/\W+/_/gr);
		my (@sql, @expected);

		# a block that needs more than a server says which test runs it
		my $page = $hand{$file} =~ s/^<!-- run by (t\/\S+) -->\n```sql\n.*?^```\n/ok(-e $1, "$file, run by $1"); ''/msger;
		while ($page =~ /^```sql\n(.*?)^```\n(?:\n*```text\n(.*?)^```\n)?/msg)
		{
			push @sql, $1;
			push @expected, $2 // '';
		}
		next unless @sql;

		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database, 'CREATE EXTENSION idem');

		# one session, its output cut up again at marks
		my $session = join('', map { "$_\n\\echo <<<end of example>>>\n" } @sql);
		my @printed = split /<<<end of example>>>\n/, psql_prints($database, $session);

		for my $i (0 .. $#sql)
		{
			my ($first) = $sql[$i] =~ /^(.*)$/m;

			is(trimmed($printed[$i] // ''), trimmed($expected[$i]), "$file, example " . ($i + 1) . ": $first");
			$examples++;
		}
		$node->safe_psql('postgres', "DROP DATABASE $database");
	}
	cmp_ok($examples, '>', 0, 'there are examples');
	return;
}

# Functions, arguments, options and errors that the pages name are there, and none is missing.
sub names
{
	my (%arguments, %columns, %known, @wrong);
	my $rows = $node->safe_psql(
		'catalog', q{
		SELECT p.proname, p.prorettype = 'trigger'::regtype,
			(SELECT string_agg(a.name, ',' ORDER BY a.n) FILTER (WHERE coalesce(a.mode, 'i') IN ('i', 'v')) || '/'
				|| coalesce(string_agg(a.name, ',' ORDER BY a.n) FILTER (WHERE a.mode = 'o'), '')
			FROM ROWS FROM (unnest(p.proargnames), unnest(p.proargmodes)) WITH ORDINALITY AS a(name, mode, n))
		FROM pg_proc AS p
			JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		WHERE p.proname LIKE 'idem%'
		UNION ALL
		SELECT c.relname, NULL, NULL FROM pg_class AS c
			JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		WHERE c.relname LIKE 'idem%'});

	foreach (split /\n/, $rows)
	{
		my ($name, $trigger, $names) = split /\|/, $_, -1;

		$known{$name} = 1;
		next if $trigger eq '' || $trigger eq 't';
		my ($in, $out) = split m{/}, $names, -1;
		push @{ $arguments{$name} }, [ split /,/, $in // '' ];
		$columns{$name} = [ split /,/, $out // '' ];
	}
	my %any = map { $_ => 1 } map { @$_ } map { @$_ } values %arguments;
	my $source = join '', map { slurp_file($_) } glob 'src/*.c';

	foreach my $file (sort keys %hand)
	{
		my $page = $hand{$file} =~ s/\]\([^()\s]+(?:\([^()]*\))?\)/]/gr;

		while ($page =~ /(?<![\w.\/-])(idem_\w+)(?!\.\w)/g)
		{
			push @wrong, "$file: there is no $1" unless $known{$1} || $file eq 'doc/coverage.md' && $source =~ /\b$1\b/;
		}

		# arguments that are given by name
		while ($page =~ /\b(idem_\w+)(\((?:[^()]++|(?2))*+\))/g)
		{
			my ($name, $list) = ($1, substr $2, 1, -1);

			next unless $arguments{$name};
			1 while $list =~ s/\([^()]*\)//g;
			$list =~ s/'[^']*'//g;
			while ($list =~ /\b(\w+)\s*=>/g)
			{
				my $argument = $1;
				push @wrong, "$file: $name has no argument $argument" unless grep { $_ eq $argument } map { @$_ } @{ $arguments{$name} };
			}
		}
		while ($page =~ /`(\w+) => /g)
		{
			push @wrong, "$file: no function has the argument $1" unless $any{$1} || $1 eq 'colocate_with';    # of Citus
		}

		# a heading has the whole signature
		while ($page =~ /^#+ .*?((?:CALL )?\bidem_\w+\(.*)$/mg)
		{
			my $heading = $1;

			while ($heading =~ /\b(idem_\w+)\(([^()]*)\)(?: → (?:setof )?\(([^()]*)\))?/g)
			{
				my ($name, $in, $out) = ($1, $2, $3);

				next unless $arguments{$name};
				$in =~ s/…//;
				push @wrong, "$file: the signature of $name in a heading is not that of the catalog"
				  unless grep { join(', ', @$_) eq $in } @{ $arguments{$name} };
				push @wrong, "$file: what $name answers in a heading is not that of the catalog"
				  if defined $out && join(', ', @{ $columns{$name} }) ne $out;
			}
		}

		# options of the triggers, errors
		while ($page =~ /\b((?:insert|late|ahead|equal)=[a-z]+)\b/g)
		{
			push @wrong, "$file: no trigger has the option $1" unless $source =~ /"\Q$1\E"/;
		}
		while ($page =~ /\b(ID\d{3})\b/g)
		{
			push @wrong, "$file: there is no error $1" unless $text{'doc/reference.md'} =~ /^\| $1 \|/m;
		}
	}
	is(join("\n", @wrong), '', 'nothing is promised that is not there');

	my $manual = join '', map { $hand{$_} } grep { $_ ne 'doc/reference.md' && /^doc/ } keys %hand;
	is(join(' ', grep { $hand{'doc/reference.md'} !~ /\b$_\b/ } sort keys %known), '', 'doc/reference.md leaves nothing out');
	is(join(' ', grep { !/^idem_stat_(?:counters|runs)$/ && $manual !~ /^#+ .*\b$_\b|^\| .*\b$_\b|`$_`/m } sort keys %known),
		'', 'nor do the other pages, but for what is inside of a view');
	return;
}

# Every relative link leads to a file, and to a heading in it.
sub links
{
	my (%anchors, @broken, $count);

	foreach my $file (@pages)
	{
		my %seen;

		my $plain = $text{$file} =~ s/^```.*?^```$//msgr;
		while ($plain =~ /^#+ +(.*?) *$/mg)
		{
			my $anchor = lc $1;

			$anchor =~ s/\[([^\]]*)\]\([^)]*\)/$1/g;
			utf8::decode($anchor);
			$anchor =~ s/[^\w\- ]//g;
			$anchor =~ tr/ /-/;
			my $number = $seen{$anchor}++;
			$anchors{$file}{ $number ? "$anchor-$number" : $anchor } = 1;
		}
	}
	foreach my $file (@pages, 'llms.txt')
	{
		my $plain = $text{$file} =~ s/^```.*?^```$//msgr;

		while ($plain =~ /\]\(([^()\s]+(?:\([^()]*\))?)\)/g)
		{
			my $link = $1;

			next if $link =~ /^[a-z]+:/;
			$count++;
			my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
			my ($directory) = $file =~ m{^(.*/)};
			my $target = $path eq '' ? $file : ($directory // '') . $path;

			1 while $target =~ s{[^/]+/\.\./}{};
			push @broken, "$file: $link" unless -e $target && (!defined $anchor || !$anchors{$target} || $anchors{$target}{$anchor});
		}
	}
	is(join("\n", @broken), '', 'every link leads somewhere');
	cmp_ok($count, '>', 0, 'there are links');
	return;
}

sub sizes
{
	my @wrong;

	foreach my $file (@pages)
	{
		# what script/bench puts in is not written by us
		(my $text = slurp_file($file)) =~ s/<!-- bench: (?!end).*?<!-- bench: end -->//gs;
		my $size = length $text;
		my ($least, $most) = $file eq 'README.md' ? (0, 14_000) : $file =~ m{recipes/} ? (1_500, 12_000) : (3_000, 13_000);

		next if $long{$file};
		push @wrong, "$file has $size bytes; $least to $most are meant" if $size < $least || $size > $most;
	}
	is(join("\n", @wrong), '', 'the pages have their sizes');
	return;
}
