# The rules of the house that a program can see, on one state of the files.
#
#	rules.pl [DIR]
#
# A line for each breach, as FILE:LINE: what; status 0: there is none. CONTRIBUTING.md says why they are.
use strict;
use warnings;

# Which families a family's files may use: its header may include the headers of these and of those below them in turn.
my %below = (
	compat => [],
	idem => ['compat'],
	stat => ['idem'],
	plan => [ 'idem', 'stat' ],
	store => ['plan'],
	store_many => ['store'],
	store_route => ['store'],
	policy => ['store'],
	claim => [ 'store', 'policy' ],
	lock => ['store'],
	token => ['store'],
	stock => [ 'store', 'policy' ],
	machine => ['idem'],
	trigger => ['idem'],
	target => ['trigger'],
);

# What else a file may use, beside its own family and those below.
my %beside = (
	'src/bucket.c' => ['store_many'],
	'src/claim_batch.c' => ['store_many'],
	'src/machine.c' => [ 'plan', 'store' ],    # the table of transitions is ours
	'src/purge.c' => [ 'claim', 'stock', 'token', 'policy', 'store_many' ],    # removes what they have recorded
	'src/reassign.c' => [ 'claim', 'lock', 'stock' ],    # gives what they have recorded to another role
	(map { $_ => ['store_many'] } 'src/store_batch.c', 'src/store_direct.c', 'src/store_range.c'),
	'src/statements.c' => [ 'claim', 'lock', 'stock', 'token' ],    # lists what is run on their tables
	'src/state.c' => ['target'],    # moves a row of the caller's
	'src/stock.c' => ['claim'],    # the rules for keys
	'src/stock_order.c' => ['claim'],
);

# Files beside src/store*.c that reach a table directly: no table of ours.
my %reaches = ('src/owner.c' => 1);    # pg_extension, for which there is no syscache

# What reaches a table or its index directly. To take a tuple apart or to make one in memory is not that.
my $in_memory = qr/(?:getattr|attisnull|form_tuple|deform_tuple|modify_tuple|modify_tuple_by_cols|copytuple|freetuple)/;
my $direct = qr/\b(?:idem_|simple_)?(?:
	heap_(?!$in_memory\b)\w+
	| systable_\w+
	| index_(?:open|close|beginscan|rescan|endscan|getnext\w*|fetch_\w+|insert)
	| table_(?:tuple|scan|index|slot|beginscan|endscan|rescan|multi|finish)\w*
	| (?:Read|Lock|ReleaseAndRead)Buffer\w*
	)\s*\(/x;
my $own_fields = qr/\bstore(?:->|\.)(?:heap|index|secondary|busy|row_locked|locked|inserted|refused|nreserved|reserved)\b/;

my $limit_c = 800;
my $limit_h = 170;
my @found;

chdir $ARGV[0] or die "$ARGV[0]: $!" if @ARGV;
my @c = (glob('idem.c'), glob 'src/*.c');
my @h = glob 'src/*.h';
my %header = map { m{([^/]+)\.h$} => 1 } @h;

check_includes($_) for @h, grep { $_ ne 'idem.c' } @c;
check_size($_) for @c, @h;
for my $file (@c, @h)
{
	matches($file, qr/PG_VERSION_NUM|PG_MAJORVERSION/, 'the server\'s version is tested in src/compat.h only') unless $file eq 'src/compat.h';
}
for my $file (@c)
{
	matches($file, qr/"[^"]*\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM)\s+[^"]*\b(?:FROM|SET|VALUES|WHERE|pg_catalog|idem\.)[^"]*"/,
		'SQL stands in src/plan.c and src/target_sql.c only')
	  unless $file =~ m{^src/(?:plan|target_sql)\.c};
	next if $file =~ m{^src/store};
	matches($file, $direct, 'tables are reached in src/store*.c only') unless $reaches{$file};
	matches($file, $own_fields, 'the fields of an IdemStore, but table, are those of src/store*.c');
}
matches($_, qr/CREATE OR REPLACE|IF NOT EXISTS/, 'the script creates, and never adopts what is there') for glob 'idem--*.sql';
matches($_, qr/\b(?:TODO|FIXME|XXX)\b/, 'unfinished') for @c, @h, glob('idem--*.sql sql/*.sql specs/*.spec t/*.pl t/*.pm'), 'README.md', glob 'doc/*.md';
matches($_, qr/^CREATE FUNCTION \S*\b(?:try|outcome)\(\w+ text\)/, 'it stands in sql/include/outcome.sql') for glob 'sql/*.sql';
for my $file (@c, glob('sql/*.sql specs/*.spec t/*.pl t/*.pm idem--*.sql script/* script/lib/*'))
{
	next if -d $file;
	matches($file, qr/[ \t]$/, 'space at the end of the line');
	matches($file, qr/^ {4,}\S/, 'indented by spaces, where .editorconfig says tabs');
}
check_comments();
check_hermetic($_) for glob 't/*.pl';
check_page();
check_map();
check_statements();

print map { "$_\n" } @found;
exit(@found ? 1 : 0);

# breach(FILE, LINE, WHAT): a finding.
sub breach
{
	my ($file, $line, $what) = @_;

	push @found, "$file:$line: $what";
	return;
}

# lines(FILE): its lines.
sub lines
{
	my ($file) = @_;

	open my $in, '<', $file or die "$file: $!";
	my @lines = readline $in;
	close $in;
	return @lines;
}

# matches(FILE, PATTERN, WHAT): no line of FILE may match, but what belongs to a message.
sub matches
{
	my ($file, $pattern, $what) = @_;
	my $number = 0;

	for my $line (lines($file))
	{
		$number++;
		next if $line =~ /err(?:hint|detail|msg)(?:_internal|_plural)?\(|psprintf\("Look/;
		breach($file, $number, $what) if $line =~ $pattern;
	}
	return;
}

# families_below(FAMILY): itself and all below it.
sub families_below
{
	my ($family) = @_;

	return ($family, map { families_below($_) } @{ $below{$family} // [] });
}

# check_includes(FILE): only its own family's header and those below, or what %beside says. A .c file belongs to the family whose
# header it includes first.
sub check_includes
{
	my ($file) = @_;
	my ($number, $own) = (0);
	my %allowed;

	($own) = $file =~ m{([^/]+)\.h$};
	for my $line (lines($file))
	{
		$number++;
		my ($name) = $line =~ /^#include "([^"\/]+)\.h"/ or next;
		next unless $header{$name};

		$own //= $name;
		if (!%allowed)
		{
			return breach($file, $number, "the family $own is not in the list of script/lib/rules.pl") unless $below{$own};
			%allowed = map { $_ => 1 } families_below($own), @{ $beside{$file} // [] };
		}
		breach($file, $number, "$name.h is neither of the family $own nor below it") unless $allowed{$name};
	}
	return;
}

# check_size(FILE): one concept fits.
sub check_size
{
	my ($file) = @_;
	my $count = () = lines($file);
	my $limit = $file =~ /\.h$/ ? $limit_h : $limit_c;

	breach($file, $count, "more than $limit lines: is it one concept?") if $count > $limit;
	return;
}

# check_comments(): each function of the script is commented on.
sub check_comments
{
	my $script = join '', map { lines($_) } glob 'idem--*.sql';
	my %commented = map { $_ => 1 } $script =~ /COMMENT ON (?:FUNCTION|PROCEDURE) (?:@\w+@\.)?(\w+)/g;

	for my $name ($script =~ /CREATE (?:FUNCTION|PROCEDURE) (?:@\w+@\.)?(\w+)/g)
	{
		breach('idem--1.0.sql', 1, "$name has no COMMENT") unless $commented{$name};
	}
	return;
}

# check_hermetic(FILE): a test that starts a server must not depend on who runs it; nor on how fast the machine is.
sub check_hermetic
{
	my ($file) = @_;
	my $text = join '', lines($file);

	breach($file, 1, 'load t/Hermetic.pm, which makes it independent of who runs it')
	  if $text =~ /^use PostgreSQL::Test::Cluster|\b\w+_node\(|\bstock_server\(/m && $text !~ /^use (?:Hermetic|IdemTest|Oracle|StockBooks)\b/m;
	matches($file, qr/getpwuid|\$ENV\{(?:USER|LOGNAME)\}/, 'the superuser is $ENV{PGUSER}, whoever runs this');
	return;
}

# check_page(): every test is on the page of the tests, and the reason for every second answer.
sub check_page
{
	my $page = join '', lines('doc/testing.md');

	for my $file (glob 'sql/*.sql specs/*.spec t/*.pl t/*.pm')
	{
		my ($name) = $file =~ m{([^/]+)\.\w+$};
		breach('doc/testing.md', 1, "does not name $file") unless $page =~ /`(?:t\/)?\Q$name\E(?:\.\w+)?`/;
	}
	for my $file (glob 'expected/*_[0-9].out')
	{
		my ($name) = $file =~ m{([^/]+)$};
		breach('doc/testing.md', 1, "does not say why there is $file") unless $page =~ /^\* `\Q$name\E`: /m;
	}
	return;
}

# check_map(): every file is on the map at the front door.
sub check_map
{
	my $map = join '', lines('idem.c');

	for my $file (grep { $_ ne 'idem.c' } @c)
	{
		breach('idem.c', 1, "its map does not name $file") unless $map =~ /^ \*\t\t\Q$file\E\t/m;
	}
	return;
}

# check_statements(): the statements of every table are printed by sql/plans.sql.
sub check_statements
{
	my $listed = join '', lines('src/statements.c');

	for my $table (map { join('', lines($_)) =~ /^extern IdemTable (\w+);/mg } @h)
	{
		breach('src/statements.c', 1, "does not list the statements of $table") unless $listed =~ /&$table\b/;
	}
	return;
}
