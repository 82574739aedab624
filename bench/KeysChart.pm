# What keys cost that are random, and those that rise: the chart and the table of P10.
package KeysChart;

use strict;
use warnings;
use utf8;

use List::Util qw(max);

my @shapes = ([ random => 'random UUID', '#c0554a' ], [ v7 => 'UUIDv7', '#3f8f5b' ], [ ascending => 'ascending', '#4a76c0' ]);
my ($left, $top, $width, $height) = (60, 96, 330, 240);

# figures(RUN): of each shape the seconds for a claim and for a bare INSERT by number of keys, and the bytes of WAL after a checkpoint.
sub figures
{
	my ($run) = @_;
	my %figures;

	foreach my $row (grep { $_->{shape} && !$_->{skipped} } @{ $run->{rows} })
	{
		my ($shape, $keys) = @$row{qw(shape keys)};

		if ($row->{of} eq 'each')
		{
			$figures{$shape}{seconds}{$keys} = [ $row->{a}, $row->{b} ];
			$figures{$shape}{few}{$keys} = $row->{among_few};
		}
		$figures{$shape}{wal}{$keys} = [ $row->{a}, $row->{b} ] if $row->{of} eq 'wal';
	}
	foreach my $of (values %figures)
	{
		my ($most) = sort { $b <=> $a } keys %{ $of->{few} // {} };
		$of->{seconds}{10_000} //= $of->{few}{$most} if $most && $most > 10_000;
	}
	return \%figures;
}

# for the manual; nothing if P10 was not measured
sub table
{
	my ($run) = @_;
	my $figures = figures($run);
	my @sizes = sizes($figures) or return "Not measured in this run.\n";
	my %has = map { $_ => 1 } map { keys %{ $_->{wal} // {} } } values %$figures;
	my $text = "![Time and WAL of a claim by the shape of its key](performance-keys.svg)\n\n| keys | " .
	  join(' | ', map { ("time, " . Report::number($_), $has{$_} ? "WAL, " . Report::number($_) : ()) } @sizes) . " |\n|---" . '|---' x (@sizes + keys %has) . "|\n";

	foreach (@shapes)
	{
		my ($shape, $name) = @$_;
		my $of = $figures->{$shape} or next;

		$text .= "| $name | " . join(' | ', map { (microseconds($of->{seconds}{$_}), $has{$_} ? bytes($of->{wal}{$_}) : ()) } @sizes) . " |\n";
	}
	return $text . "\nEach is idem : bare INSERT, for one claim; WAL in the first thousand claims after a checkpoint.\n";
}

sub sizes
{
	my ($figures) = @_;
	my %sizes = map { $_ => 1 } map { keys %{ $_->{seconds} } } values %$figures;

	return sort { $a <=> $b } keys %sizes;
}

sub microseconds
{
	my ($pair) = @_;

	return $pair ? sprintf '%.1f : %.1f µs', map { $_ * 1e6 } @$pair : '';
}

sub bytes
{
	my ($pair) = @_;

	return $pair ? join(' : ', map { Report::number($_) } @$pair) . ' B' : '';
}

# lines of the time, and bars of the WAL; nothing if P10 was not measured
sub chart
{
	my ($run) = @_;
	my $figures = figures($run);
	my @sizes = sizes($figures) or return;
	my @svg = (
		Report::text(12, 24, 'Which keys to choose: what a first claim costs among many', 'font-size="17" font-weight="bold"'),
		Report::text(12, 44, "$run->{date}, PostgreSQL $run->{server}, $run->{processor}, $run->{cores} cores", 'fill="#555" font-size="12"'));
	my $at = 12;

	foreach (@shapes)
	{
		my (undef, $name, $color) = @$_;

		push @svg, sprintf('<rect x="%d" y="56" width="12" height="12" fill="%s"/>', $at, $color), Report::text($at + 17, 67, $name, 'font-size="12"');
		$at += 40 + 7 * length $name;
	}
	push @svg, line($at, 62, $at + 26, 62, '#000', 2), Report::text($at + 31, 67, 'idem', 'font-size="12"'),
	  line($at + 75, 62, $at + 101, 62, '#000', 2, 1), Report::text($at + 106, 67, 'bare INSERT', 'font-size="12"');
	push @svg, lines_of_time($figures, @sizes), bars_of_wal($figures, $sizes[-1]);
	return join("\n",
		'<svg xmlns="http://www.w3.org/2000/svg" width="830" height="390" viewBox="0 0 830 390" font-family="sans-serif" font-size="13">',
		'<rect width="100%" height="100%" fill="white"/>', @svg, '</svg>') . "\n";
}

sub lines_of_time
{
	my ($figures, @sizes) = @_;
	my $most = max map { map { @$_ } values %{ $_->{seconds} } } values %$figures;
	my $x = sub { $left + 20 + ($width - 60) * (@sizes > 1 ? log($_[0] / $sizes[0]) / log($sizes[-1] / $sizes[0]) : 0.5) };
	my $y = sub { $top + $height * (1 - $_[0] / $most / 1.05) };
	my @svg = (Report::text($left, $top - 8, 'microseconds for each, by the keys that are there', 'font-size="12"'), axes($left, $width));

	foreach my $tick (ticks($most * 1e6))
	{
		push @svg, line($left, $y->($tick / 1e6), $left + $width, $y->($tick / 1e6), '#ddd'), Report::text($left - 6, $y->($tick / 1e6) + 4, $tick, 'text-anchor="end" font-size="12"');
	}
	push @svg, map { Report::text($x->($_), $top + $height + 18, $_ >= 1e6 ? $_ / 1e6 . ' million' : Report::number($_), 'text-anchor="middle" font-size="12"') } @sizes;
	foreach (@shapes)
	{
		my ($shape, undef, $color) = @$_;
		my $seconds = ($figures->{$shape} // {})->{seconds} or next;
		my @there = grep { $seconds->{$_} } @sizes;

		foreach my $side (0, 1)
		{
			push @svg, map { line($x->($there[ $_ - 1 ]), $y->($seconds->{ $there[ $_ - 1 ] }[$side]), $x->($there[$_]), $y->($seconds->{ $there[$_] }[$side]), $color, 2, $side) } 1 .. $#there;
			push @svg, map { sprintf '<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>', $x->($_), $y->($seconds->{$_}[$side]), $color } @there;
		}
	}
	return @svg;
}

# bars: filled for idem, open for the bare INSERT
sub bars_of_wal
{
	my ($figures, $keys) = @_;
	my $from = $left + $width + 80;
	my @there = grep { ($figures->{ $_->[0] } // {})->{wal}{$keys} } @shapes or return;
	my $most = max map { @{ $figures->{ $_->[0] }{wal}{$keys} } } @there;
	my $y = sub { $top + $height * (1 - $_[0] / $most / 1.1) };
	my @svg = (Report::text($from, $top - 8, 'bytes of WAL for each after a checkpoint, ' . Report::number($keys) . ' keys', 'font-size="12"'), axes($from, $width));

	foreach my $i (0 .. $#there)
	{
		my ($shape, $name, $color) = @{ $there[$i] };
		my $middle = $from + $width * ($i + 0.5) / @there;

		foreach my $side (0, 1)
		{
			my $bytes = $figures->{$shape}{wal}{$keys}[$side];

			push @svg, sprintf('<rect x="%.1f" y="%.1f" width="32" height="%.1f" fill="%s" stroke="%s"/>',
				$middle - 36 + 40 * $side, $y->($bytes), $top + $height - $y->($bytes), $side ? 'white' : $color, $color),
			  Report::text($middle - 20 + 40 * $side, $y->($bytes) - 5, Report::number($bytes), 'text-anchor="middle" font-size="12"');
		}
		push @svg, Report::text($middle, $top + $height + 18, $name, 'text-anchor="middle" font-size="12"');
	}
	return @svg;
}

sub axes
{
	my ($from, $wide) = @_;

	return (line($from, $top, $from, $top + $height, '#000'), line($from, $top + $height, $from + $wide, $top + $height, '#000'));
}

# four to eight round numbers up to the greatest
sub ticks
{
	my ($most) = @_;
	my ($step) = grep { $most / $_ <= 8 } map { my $ten = 10**$_; ($ten, 2 * $ten, 5 * $ten) } -2 .. 6;

	return grep { $_ <= $most * 1.05 } map { $_ * $step } 0 .. 9;
}

sub line
{
	my ($x1, $y1, $x2, $y2, $color, $thick, $dashed) = @_;

	return sprintf '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%s"%s/>', $x1, $y1, $x2, $y2, $color, $thick // 1,
	  $dashed ? ' stroke-dasharray="5 4"' : '';
}

1;
