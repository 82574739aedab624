# Pins that after a crash of the server under load the books balance, and every acknowledged call has happened once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;
use Time::HiRes qw(usleep);

my $crashes = $ENV{IDEM_STOCK_CRASHES} || 2;
my $clients = 16;
my $added = 1_000_000;
my $node = stock_server('crash', 'wal_level = minimal', 'max_wal_senders = 0');
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', "SELECT idem_stock_add('hot', $added, 16)");

my %promised;    # order => verb => true
for my $round (1 .. $crashes)
{
	my @sessions;

	# each client: an order, a second after it confirmed, released or left, and every fifth asked for twice
	for my $client (1 .. $clients)
	{
		my ($in, $out) = ("$dir/in.$round.$client", "$dir/out.$round.$client");
		my $sql = '';

		for my $n (1 .. 20_000)
		{
			my $key = "$round-$client-$n";

			$sql .= "SELECT '$key', 'reserve', idem_stock_reserve('crash', '$key', 'hot', " . (1 + $n % 3) . ", '1 hour');\n" x ($n % 5 ? 1 : 2);
			$sql .= "SELECT '$key', 'confirm', idem_stock_confirm('crash', '$key');\n" if $n % 4 == 1;
			$sql .= "SELECT '$key', 'release', idem_stock_release('crash', '$key');\n" if $n % 4 == 2;
		}
		append_to_file($in, $sql);
		push @sessions,
		  IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $in ], '>', $out, '2>', '/dev/null');
	}

	usleep(500_000 + rand(1_000_000));
	$node->stop('immediate');
	$_->finish foreach @sessions;
	$node->start;

	foreach my $client (1 .. $clients)
	{
		foreach my $line (split /\n/, slurp_file("$dir/out.$round.$client"))
		{
			my ($key, $verb, $answer) = split /\|/, $line;

			$promised{$key}{$verb} = 1 if defined $answer && $answer eq 't';
		}
	}

	is(books($node, 'hot', $added), 'balance', "crash $round: books");

	my %status = map { split /\|/ } split /\n/,
	  $node->safe_psql('postgres', q{SELECT seq, status FROM idem.hold});
	my $broken = grep {
		my $promise = $promised{$_};
		my $have = $status{$_} // '-';

		# what was not acknowledged may have happened all the same
		$have !~ ($promise->{confirm} ? qr/^c$/ : $promise->{release} ? qr/^r$/ : qr/^[hcr]$/);
	} keys %promised;
	is($broken, 0, "crash $round: every acknowledged call has happened, of " . scalar(keys %promised) . ' orders');
}

# everything that was acknowledged is sent again: it is answered, and nothing moves
my $before = $node->safe_psql('postgres', q{SELECT idem_stock_available('hot'), count(*) FROM idem.hold});
my @again = map { "SELECT idem_stock_reserve('crash', '$_', 'hot', " . (1 + (split /-/)[2] % 3) . ", '1 hour');" }
  grep { !$promised{$_}{release} } keys %promised;
append_to_file("$dir/again", join("\n", @again));
my ($answers) = run_command([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', "$dir/again" ]);
my $taken = () = $answers =~ /^t$/mg;
my $gone = () = $answers =~ /^f$/mg;    # released, and the answer was lost
is($taken + $gone, scalar(@again), 'all are answered');
cmp_ok($gone, '<=', $crashes * $clients, 'refused are at most those whose release was cut off');
is($node->safe_psql('postgres', q{SELECT idem_stock_available('hot'), count(*) FROM idem.hold}), $before, 'nothing moves');
is(books($node, 'hot', $added), 'balance', 'books at the end');

$node->stop;
done_testing();
