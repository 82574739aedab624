# What contrib/monitoring/picture needs of an exporter, of Prometheus and of Grafana.
#
#	picture.pl sample QUERIES SECONDS PSQL      asks the queries of a postgres_exporter file once a second; JSON
#	picture.pl draw DASHBOARD SAMPLES           the dashboard's panels as a page
#
# Of PromQL it knows what the dashboard uses: [topk(n, ] sum by (label, …) (metric{…}) or of rate(metric{…}[…]).
use strict;
use warnings;

use JSON::PP;
use Time::HiRes qw(time usleep);

my $window = 5;    # seconds that a rate is taken over
my @colours = map { "#$_" } qw(3274d9 e0752d 2f9e57 c4162a 8f3bb8 b8860b 0f7f8f);
my ($what, @arguments) = @ARGV;
($what eq 'sample' ? \&sample : \&draw)->(@arguments);

sub slurp
{
	my ($file) = @_;

	open my $in, '<:encoding(UTF-8)', $file or die "$file: $!";
	local $/;
	return scalar readline $in;
}

# One line of JSON for each second: metric, labels, value.
sub sample
{
	my ($file, $seconds, $psql) = @_;
	my (%labels, %query, $name);
	my $yaml = slurp($file);

	while ($yaml =~ /^(\w+):\n  query: \|\n((?:    .*\n)+)  metrics:\n((?:    .*\n)+)/mg)
	{
		my ($metric, $query, $columns) = ($1, $2, $3);

		$query{$metric} = $query;
		$labels{$metric}{$1} = 1 while $columns =~ /- (\w+): \{ usage: "LABEL"/g;
	}

	my $begin = time;
	for my $tick (0 .. $seconds)
	{
		my @values;

		usleep(1e6 * ($begin + $tick - time)) if time < $begin + $tick;
		foreach my $metric (sort keys %query)
		{
			open my $out, '-|', $psql, '-XAtq', '-c', "SELECT to_json(q) FROM ($query{$metric}) q" or die "psql: $!";
			while (my $line = readline $out)
			{
				my $row = decode_json($line);
				my %labels = map { $_ => $row->{$_} } keys %{ $labels{$metric} };

				push @values, map { [ "${metric}_$_", \%labels, 0 + ($row->{$_} // 0) ] } grep { !exists $labels{$_} } keys %$row;
			}
			close $out or die "query $metric failed";
		}
		print encode_json({ at => time - $begin, values => \@values }), "\n";
	}
	return;
}

# The series of an expression: name of the series => list of [time, value].
sub series
{
	my ($expression, $legend, $samples) = @_;
	my ($top, $by, $rate, $metric, $matchers) =
	  $expression =~ /^(?:topk\((\d+), )?sum by \(([\w, ]+)\) \((rate\()?(\w+)\{(.*)\}(?:\[.+?\]\))?\)\)?$/
	  or die "cannot work out: $expression";
	my %sums;

	foreach my $sample (@$samples)
	{
		my %sum;

		foreach my $value (@{ $sample->{values} })
		{
			my ($name, $labels, $number) = @$value;
			next if $name ne $metric || !matches($labels, $matchers);
			my $series = $legend =~ s/\{\{(\w+)\}\}/$labels->{$1} eq '' ? 'others' : $labels->{$1}/ger;
			$sum{$series} += $number;
		}
		push @{ $sums{$_} }, [ $sample->{at}, $sum{$_} ] foreach keys %sum;
	}
	foreach my $points ($rate ? values %sums : ())
	{
		my @rates;

		foreach my $i (1 .. $#$points)
		{
			my $j = $i;
			$j-- while $j > 0 && $points->[$i][0] - $points->[$j][0] < $window;
			push @rates, [ $points->[$i][0], ($points->[$i][1] - $points->[$j][1]) / ($points->[$i][0] - $points->[$j][0]) ];
		}
		@$points = @rates;
	}
	if ($top)
	{
		my %total = map { my $name = $_; my $sum = 0; $sum += $_->[1] foreach @{ $sums{$name} }; $name => $sum } keys %sums;
		my @names = sort { $total{$b} <=> $total{$a} } keys %sums;
		delete @sums{ @names[ $top .. $#names ] } if @names > $top;
	}
	return \%sums;
}

sub matches
{
	my ($labels, $matchers) = @_;

	while ($matchers =~ /(\w+)(=~|!~|=)"([^"]*)"/g)
	{
		my ($label, $operator, $value) = ($1, $2, $3);
		next if $value eq '$database';
		my $is = $operator eq '=' ? $labels->{$label} eq $value : $labels->{$label} =~ /^(?:$value)$/;
		return 0 if $operator eq '!~' ? $is : !$is;
	}
	return 1;
}

sub escaped { return $_[0] =~ s/&/&amp;/gr =~ s/</&lt;/gr; }

# A number at an axis.
sub short
{
	my ($number) = @_;

	return $number >= 1000 ? sprintf('%.3gk', $number / 1000) : sprintf('%.3g', $number);
}

# The least round number that is not below.
sub round_up
{
	my ($number) = @_;
	my $power = 10**int(log($number || 1) / log(10) - ($number < 1 ? 1 : 0));

	foreach my $step (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
	{
		return $step * $power if $step * $power >= $number;
	}
	return 10 * $power;
}

# One panel as SVG, 400 by 250.
sub panel
{
	my ($panel, $samples) = @_;
	my ($left, $top, $width, $height) = (44, 44, 340, 150);
	my $stacked = $panel->{fieldConfig}{defaults}{custom}{stacking}{mode} eq 'normal';
	my $end = $samples->[-1]{at};
	my (%series, @svg, %base, @legend);

	%series = (%series, %{ series($_->{expr}, $_->{legendFormat}, $samples) }) foreach @{ $panel->{targets} };
	my @names = sort keys %series;
	foreach my $name (@names)
	{
		foreach my $point (@{ $series{$name} })
		{
			$point->[2] = $stacked ? $base{ $point->[0] } // 0 : 0;
			$base{ $point->[0] } = $stacked ? $point->[1] + $point->[2] : ($base{ $point->[0] } // 0) > $point->[1] ? $base{ $point->[0] } : $point->[1];
		}
	}
	my $most = 0;
	foreach my $value (values %base) { $most = $value if $value > $most; }
	$most = round_up($most);

	my $x = sub { sprintf '%.1f', $left + $width * $_[0] / $end };
	my $y = sub { sprintf '%.1f', $top + $height - $height * $_[0] / $most };
	push @svg, sprintf '<text x="10" y="20" class="title">%s</text>', escaped($panel->{title});
	push @svg, sprintf '<text x="10" y="35">%s</text>', $panel->{fieldConfig}{defaults}{unit} eq 'ops' ? 'a second' : 'number';
	foreach my $quarter (0 .. 4)
	{
		my $at = $y->($most * $quarter / 4);
		push @svg, qq(<line x1="$left" y1="$at" x2="@{[$left + $width]}" y2="$at" class="grid"/>);
		push @svg, sprintf '<text x="%d" y="%.1f" text-anchor="end">%s</text>', $left - 5, $at + 4, short($most * $quarter / 4);
	}
	foreach my $n (grep { $_ * 15 <= $end } 0 .. 20)
	{
		push @svg, sprintf '<text x="%s" y="%d" text-anchor="middle">%d s</text>', $x->($n * 15), $top + $height + 15, $n * 15;
	}
	foreach my $i (0 .. $#names)
	{
		my $colour = $colours[ $i % @colours ];
		my @points = @{ $series{ $names[$i] } } or next;
		my $line = join ' ', map { $x->($_->[0]) . ',' . $y->($_->[1] + $_->[2]) } @points;

		push @legend, qq(<span style="color:$colour">&#9632;</span> ) . escaped($names[$i]);
		next if !grep { $_->[1] } @points;    # would hide the one below it
		push @svg, sprintf '<polygon points="%s %s" fill="%s" fill-opacity="0.25"/>', $line,
		  join(' ', map { $x->($_->[0]) . ',' . $y->($_->[2]) } reverse @points), $colour
		  if $stacked;
		push @svg, qq(<polyline points="$line" fill="none" stroke="$colour" stroke-width="1.5"/>);
	}
	return '<div class="panel"><svg width="398" height="215">' . join("\n", @svg) . '</svg><p>' . join(' &nbsp; ', @legend) . "</p></div>\n";
}

sub draw
{
	my ($dashboard, $file) = map { slurp($_) } @_;
	my @samples = map { decode_json($_) } split /\n/, $file;

	binmode STDOUT, ':encoding(UTF-8)';
	print '<!DOCTYPE html><meta charset="utf-8"><style>body { margin: 8px; background: #f4f5f5; width: 1214px; font: 11px "DejaVu Sans", sans-serif; }',
	  '.panel { float: left; width: 398px; height: 262px; margin: 2px; background: #fff; border: 1px solid #d8d9da; }',
	  'p { margin: 2px 10px; line-height: 15px; } svg text { font: 10px "DejaVu Sans", sans-serif; fill: #464c54; } svg .title { font-size: 12px; font-weight: bold; fill: #24292e; }',
	  '.grid { stroke: #e4e5e6; }</style>';
	print panel($_, \@samples) foreach @{ decode_json($dashboard)->{panels} };
	return;
}
