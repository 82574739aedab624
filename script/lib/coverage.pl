# The report of script/coverage: per file the lines and branches that were executed, then those that never were.
#
#	gcov --json-format --branch-probabilities --stdout … | coverage.pl
#
# In the directory of the sources. Status 1: less than 95 % of the lines.
use strict;
use warnings;

use JSON::PP;

my (%seen, @rows, @missing, %total);
my $macros = qr/CHECK_FOR_INTERRUPTS|VAR(?:SIZE|DATA)_ANY|PG_(?:END_)?TRY|PG_CATCH|PG_FINALLY|InvokeFunctionExecuteHook/;

while (my $json = <STDIN>)
{
	next unless $json =~ /^\{/;
	for my $file (@{ decode_json($json)->{files} })
	{
		my $name = $file->{file};
		next if $name =~ m{^/} || $name =~ /\.h$/ || $seen{$name}++;
		open my $in, "<", $name or die "$name: $!";
		my @text = ("", <$in>);
		my %raises = raises(\@text);
		my %count = map { $_ => 0 } qw(lines hit branches taken);

		for my $line (@{ $file->{lines} })
		{
			my ($number, $where) = ($line->{line_number}, "$name:$line->{line_number}");
			my $source = $text[$number] =~ s/^\s+|\s+$//gr;
			$count{lines}++;
			if ($line->{count} == 0)
			{
				push @missing, "$where\tline\t$source";
			}
			else
			{
				$count{hit}++;
			}
			next if $raises{$number} || $source =~ $macros;
			my $n = 0;
			for my $branch (@{ $line->{branches} })
			{
				$n++;
				next if $branch->{throw};
				$count{branches}++;
				if ($branch->{count} > 0)
				{
					$count{taken}++;
				}
				elsif ($line->{count} > 0)
				{
					push @missing, "$where\tbranch $n\t$source";
				}
			}
		}
		push @rows, [ $name, %count ];
		$total{$_} += $count{$_} for keys %count;
	}
}
die "coverage: nothing was counted\n" unless @rows;

printf "%-20s %14s %18s\n", "file", "lines", "branches";
row(@$_) for sort { $a->[0] cmp $b->[0] } @rows;
row("all", %total);
print "\n", map { "$_\n" } @missing;
exit($total{hit} / $total{lines} >= 0.95 ? 0 : 1);

# a line of the table
sub row
{
	my ($name, %count) = @_;
	printf "%-20s %4d/%4d %4.1f%% %4d/%4d %5.1f%%\n", $name, $count{hit}, $count{lines},
		100 * $count{hit} / ($count{lines} || 1), $count{taken}, $count{branches},
		$count{branches} ? 100 * $count{taken} / $count{branches} : 100;
}

# the lines of calls of ereport and elog
sub raises
{
	my ($text) = @_;
	my (%lines, $depth);
	for my $number (1 .. $#$text)
	{
		my $line = $text->[$number] =~ s/"(?:[^"\\]|\\.)*"//gr;
		$depth = 0 if !$depth && $line =~ s/.*\b(?:ereport|elog)(?=\()//;
		next unless defined $depth;
		$lines{$number} = 1;
		$depth += ($line =~ tr/(//) - ($line =~ tr/)//);
		undef $depth if $depth <= 0;
	}
	return %lines;
}
