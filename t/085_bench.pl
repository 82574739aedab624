# Pins that script/bench runs and reports all that bench/measures.pl lists, as text, JSON, chart and documents, and that its
# verdicts follow the ratios. The size is tiny, so no figure means anything, and none is tested.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../bench";
use lib $FindBin::RealBin;
use Hermetic;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Report;
use Test::More;

my $top = "$FindBin::RealBin/..";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $peers = slurp_file("$top/bench/peers.sql");
my $measures = do "$top/bench/measures.pl" or die "measures.pl: $@";

# verdicts, from pairs with a known ratio
sub judged
{
	my ($row, @ratios) = @_;

	$row->{pairs} = [ map { [ 10 * $_, 10 ] } @ratios ];
	Report::judge($row);
	return $row;
}
my $row = judged({ floor => 2, goal => 4 }, 2, 3, 3, 3, 9);
is($row->{ratio}, 3, 'median of the ratios');
cmp_ok($row->{low}, '>=', 2, 'interval from');
cmp_ok($row->{low}, '<=', 3, 'interval from below the median');
cmp_ok($row->{high}, '>=', 3, 'interval to above the median');
cmp_ok($row->{high}, '<=', 9, 'interval to');
my %limits = (floor => 2, goal => 4);
is(judged({%limits}, 4, 4, 4)->{verdict}, 'goal met', 'at the goal');
is(judged({%limits}, 3.9, 3.9, 9)->{verdict}, 'floor met', 'below the goal');
is(judged({%limits}, 1.9, 1.9, 1.9)->{verdict}, 'below floor', 'below the floor');
is(judged({ goal => 4 }, 3)->{verdict}, 'goal missed', 'a goal without a floor');
%limits = (floor => 1, goal => 0.8, lower => 1);
is(judged({%limits}, 0.8)->{verdict}, 'goal met', 'lower is better, at the goal');
is(judged({%limits}, 0.9)->{verdict}, 'floor met', 'lower is better, above the goal');
is(judged({%limits}, 1.1)->{verdict}, 'below floor', 'lower is better, above the floor');
is(judged({}, 2, 2, 2)->{verdict}, 'faster', 'a peer that is slower');
is(judged({}, 0.5, 0.5, 0.5)->{verdict}, 'slower', 'a peer that is faster');
is(judged({}, 0.5, 0.5, 2, 2)->{verdict}, 'no difference', 'a peer that is neither');
is(judged({ absolute => 1, lower => 1, floor => 8, goal => 30 }, 2)->{ratio}, 20, 'a measure that is no ratio');

SKIP:
{
	my $prints = sub {
		my ($out) = run_command([ $ENV{PG_CONFIG} // 'pg_config', @_ ]);
		return $out;
	};

	skip 'no libpq-fe.h to build the clients with', 1
	  unless grep { -e "$_/libpq-fe.h" } $prints->('--includedir'), '/usr/include/postgresql', '/usr/include';

	# the server that the tests run on has idem installed; its programs
	local $ENV{IDEM_BENCH_BINDIR} = $prints->('--bindir');
	local $ENV{TMPDIR} = "$dir/tmp";
	mkdir $_ or die "$_: $!" foreach "$dir/tmp", "$dir/output";
	my ($printed, $errors) = ('', '');
	my $ok = IPC::Run::run [ "$top/script/bench", '--tiny', '--output', "$dir/output" ], '>', \$printed, '2>', \$errors;

	ok($ok, 'script/bench') or diag($printed, $errors), last SKIP;
	utf8::decode($printed);
	is_deeply([ glob "$dir/tmp/*" ], [], 'it leaves nothing behind');

	# JSON: a row for each, in order
	my $run = eval { Report::load("$dir/output") };
	ok($run, 'bench.json is JSON');
	my @expected = map { ("$_->{id} $_->{what} against $_->{against}") x @{ $_->{clients} // [1] } } @$measures;
	is_deeply([ map { "$_->{id} $_->{what} against $_->{against}" } @{ $run->{rows} } ], \@expected, 'it has every row');
	foreach my $id (map({ "P$_" } 1 .. 16, qw(6r 7b 8b)), qw(policy locks stock token))
	{
		cmp_ok(scalar(grep { $_->{id} eq $id } @{ $run->{rows} }), '>', 0, "$id is measured");
	}
	foreach my $row (@{ $run->{rows} })
	{
		my $name = "$row->{id}, $row->{what}, $row->{conditions}";

		next if ($row->{skipped} // '') eq 'nothing was done in the time';    # how fast the machine is does not matter
		if ($row->{skipped})
		{
			like($row->{skipped}, qr/^no (redis|etcd|PostgreSQL 19) here$/, "$name: only for want of a peer");
			ok($row->{skipped} =~ /PostgreSQL (\d+)/ ? $run->{server} < $1 : !$run->{ $1 // '' }, "$name: and it is not there");
			next;
		}
		ok(@{ $row->{pairs} } >= 1 && !grep({ @$_ != 2 || grep { $_ < 0 } @$_ } @{ $row->{pairs} }), "$name: pairs");
		ok($row->{low} <= $row->{ratio} && $row->{ratio} <= $row->{high}, "$name: ratio in its interval");
		like($row->{verdict}, qr/^(goal met|floor met|below floor|goal missed|faster|slower|more|less|no difference)$/, "$name: verdict");
		cmp_ok(index($printed, "    $row->{conditions} "), '>', 0, "$name: printed");
	}
	ok($run->{$_}, "it says $_") foreach qw(date processor cores server idem compiler fsync_us settings);
	my $lines = () = $printed =~ /^    against /mg;
	is($lines, scalar(@$measures), 'each comparison is printed');

	# the chart: elements that nest, text without bare markup, a bar for each ratio
	my $svg = slurp_file("$dir/output/bench.svg");
	my (@open, @wrong);
	while ($svg =~ /<(\/?)(\w+)((?:\s[\w:-]+="[^"<]*")*)\s*(\/?)>|([^<]+)|(<)/g)
	{
		my ($end, $name, $alone, $text, $bare) = ($1, $2, $4, $5, $6);

		push @wrong, 'a bare <' if defined $bare;
		push @wrong, $text if defined $text && $text =~ />|&(?!(amp|lt|gt);)/;
		next unless defined $name;
		if ($end) { push @wrong, "</$name>" unless @open && pop @open eq $name }
		elsif (!$alone) { push @open, $name }
	}
	is_deeply([ @open, @wrong ], [], 'bench.svg is well-formed');
	like(slurp_file("$dir/output/keys.svg"), qr/^<svg .*<circle .*<\/svg>$/s, 'the chart of the keys is there');
	my $bars = () = $svg =~ /<g>/g;
	is($bars, scalar(grep { !$_->{skipped} && !$_->{absolute} } @{ $run->{rows} }), 'a bar for each ratio');

	# the documents
	mkdir "$dir/doc" or die $!;
	Report::spew("$dir/$_", Report::slurp("$top/$_")) foreach @Report::documents;
	Report::update($dir, $run, $measures, $peers);
	my $readme = slurp_file("$dir/README.md");
	my $performance = slurp_file("$dir/doc/performance.md");
	my $of = sub { scalar(() = $_[0] =~ /\| \*\*[a-z ]+\*\* \|$|\| not measured: [^|]+\|$/mg) };
	my $front = () = $readme =~ /\| [0-9.]+ \[[0-9., ]+\] \|$/mg;
	is($front, scalar(Report::front_rows($run)), 'README shows the rows that are for it');
	cmp_ok($front, '<=', 8, 'which are at most eight');
	is($of->(slurp_file("$dir/doc/performance-statements.md")), scalar(@{ $run->{rows} }), 'doc/performance-statements.md shows each row');
	my ($facts) = Report::facts($run);
	like($_, qr/^\Q$facts\E/m, 'with the date and the processor') foreach $readme, $performance;
	Report::update($dir, $run, $measures, $peers);
	is(slurp_file("$dir/README.md"), $readme, 'a second time changes nothing');

	# what is measured again takes its place
	my @names = map { "$_->{id} $_->{what} $_->{conditions}" } @{ $run->{rows} };
	my %again = (date => 'later', rows => [ map { {%$_} } grep { $_->{id} eq 'P7' } @{ $run->{rows} } ]);
	Report::add_to("$dir/output", \%again, $measures);
	is_deeply([ map { "$_->{id} $_->{what} $_->{conditions}" } @{ $again{rows} } ], \@names, 'added to a run: the same rows in the same order');
	is_deeply([ map { $_->{id} } grep { ($_->{date} // '') eq 'later' } @{ $again{rows} } ], [ 'P7', 'P7' ], 'of which two are new');
	is($again{date}, $run->{date}, 'the rest is that of the run before');
	my %without = (%$run, rows => [ grep { $_->{id} ne 'P15' } @{ $run->{rows} } ]);
	Report::spew("$dir/output/bench.json", JSON::PP->new->utf8->encode(\%without));
	%again = (date => 'later', rows => [ map { {%$_} } grep { $_->{id} eq 'P15' } @{ $run->{rows} } ]);
	Report::add_to("$dir/output", \%again, $measures);
	is_deeply([ map { "$_->{id} $_->{what} $_->{conditions}" } @{ $again{rows} } ], \@names, 'and what was not there its own');
}

# the document shows the statements that are measured
my %parts = (statements => Report::statements($measures), tables => Report::tables($peers));
my $document = slurp_file("$top/doc/performance-statements.md");
foreach my $part (sort keys %parts)
{
	my ($shown) = $document =~ /<!-- bench: $part -->\n\n(.*?)\n+<!-- bench: end -->/s;

	is($shown, Encode::encode('UTF-8', $parts{$part} =~ s/\n+\z//r), "doc/performance-statements.md shows the $part (if not: script/bench --update-docs --from-json)");
}

done_testing();
