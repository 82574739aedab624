# What script/bench says: verdicts, the printed table, the table in Markdown, the chart, and the documents that show them.
package Report;

use strict;
use warnings;
use utf8;

use Encode ();
use JSON::PP;
use List::Util qw(max min);

# slurp(FILE), spew(FILE, BYTES)
sub slurp
{
	my ($file) = @_;

	open my $in, '<', $file or die "$file: $!\n";
	local $/;
	return readline $in;
}

sub spew
{
	my ($file, $bytes) = @_;

	open my $out, '>', $file or die "$file: $!\n";
	print $out $bytes;
	close $out or die "$file: $!\n";
	return;
}

# quantile(SHARE, NUMBER...)
sub quantile
{
	my ($share, @numbers) = @_;
	@numbers = sort { $a <=> $b } @numbers;
	my $place = $share * $#numbers;
	my $below = int $place;

	return $numbers[$below] if $below == $#numbers;
	return $numbers[$below] + ($place - $below) * ($numbers[ $below + 1 ] - $numbers[$below]);
}

# judge(ROW): the ratio of its pairs, with the interval in which 95 of 100 resamples have it, and what that means.
sub judge
{
	my ($row) = @_;
	# on a busy machine nothing at all may be done in the time of a short run
	my @ratios = map { $row->{absolute} ? $_->[0] : $_->[0] / $_->[1] } grep { $row->{absolute} || $_->[1] } @{ $row->{pairs} };
	my @medians;

	if (!@ratios)
	{
		$row->{skipped} = 'nothing was done in the time';
		return;
	}

	foreach (1 .. 2000)
	{
		push @medians, quantile(0.5, map { $ratios[ rand @ratios ] } @ratios);
	}
	$row->{a} = quantile(0.5, map { $_->[0] } @{ $row->{pairs} });
	$row->{b} = quantile(0.5, map { $_->[1] } @{ $row->{pairs} });
	$row->{ratio} = quantile(0.5, @ratios);
	($row->{low}, $row->{high}) = map { quantile($_, @medians) } 0.025, 0.975;

	my $sign = $row->{lower} ? -1 : 1;
	my $reached = sub { defined $row->{ $_[0] } && $sign * $row->{ratio} >= $sign * $row->{ $_[0] } };
	$row->{verdict} =
	    $reached->('goal') ? 'goal met'
	  : $reached->('floor') ? 'floor met'
	  : defined $row->{floor} ? 'below floor'
	  : defined $row->{goal} ? 'goal missed'
	  : $row->{low} > 1 ? ($row->{lower} ? 'more' : 'faster')
	  : $row->{high} < 1 ? ($row->{lower} ? 'less' : 'slower')
	  : 'no difference';
	return;
}

# --- the printed table ---

sub heading
{
	my ($run) = @_;

	return join('', map { "$_\n" } facts($run)) . "\n";
}

sub title
{
	my ($measure) = @_;

	return "\n$measure->{id}  $measure->{what}\n    against $measure->{against}\n";
}

sub line
{
	my ($row) = @_;

	return sprintf "    %-58s  %s\n", $row->{conditions}, "not measured: $row->{skipped}" if $row->{skipped};
	return sprintf "    %-58s  %10s : %-10s  %-22s %-22s %-13s %s\n", $row->{conditions}, value($row, $row->{a}), value($row, $row->{b}),
	  ratio($row), join(', ', map { defined $row->{$_} ? "$_ " . limit($row, $_) : () } qw(floor goal)), $row->{verdict},
	  $row->{server_us} ? sprintf('(server %.0f : %.0f µs)', @{ $row->{server_us} }) : '';
}

sub ending
{
	my ($run) = @_;
	my %count;

	$count{ $_->{verdict} // 'not measured' }++ foreach @{ $run->{rows} };
	return sprintf "\n%d rows in %d s, load %s before and %s after: %s\n", scalar @{ $run->{rows} }, $run->{seconds},
	  map({ $_ // '?' } @$run{ 'load_before', 'load_after' }), join(', ', map { "$count{$_} $_" } sort keys %count);
}

# what was measured on, in lines
sub facts
{
	my ($run) = @_;

	return (
		"$run->{date}, $run->{processor}, $run->{cores} cores, $run->{memory_gb} GB, $run->{system}",
		"PostgreSQL $run->{server}, idem $run->{idem}, $run->{compiler}, " . ($run->{redis} || 'no Redis') . ', ' . ($run->{etcd} || 'no etcd'),
		sprintf('a flush of 8 kB to this disk (%s) takes %.0f µs; load %s at the start; ', $run->{filesystem}, $run->{fsync_us}, $run->{load_before} // '?')
		  . join(', ', map { "$_ $run->{settings}{$_}" } sort keys %{ $run->{settings} }));
}

sub number
{
	my ($number) = @_;
	my $text = sprintf '%.0f', $number;

	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

sub value
{
	my ($row, $value) = @_;
	my $unit = $row->{unit};

	return number($value) . '/s' if $unit eq '/s';
	return sprintf '%.1f B', $value if $unit eq 'bytes';
	return sprintf '%.2f MB', $value / 1e6 if $unit eq 'MB';
	return sprintf '%.2f ms', $value * 1e3 if $unit eq 'ms';
	return sprintf '%.2f µs', $value * 1e6;
}

# three digits that say something
sub short
{
	my ($number) = @_;

	return sprintf $number >= 100 ? '%.0f' : $number >= 10 ? '%.1f' : $number < 0.1 ? '%.3f' : '%.2f', $number;
}

sub ratio
{
	my ($row) = @_;
	my @numbers = map { $row->{absolute} ? $row->{$_} / 1e6 : $row->{$_} } qw(ratio low high);

	return sprintf '%s [%s, %s]%s', map({ short($_) } @numbers), $row->{absolute} ? ' MB' : '';
}

sub limit
{
	my ($row, $which) = @_;

	return '' unless defined $row->{$which};
	return $row->{absolute} ? $row->{$which} / 1e6 . ' MB' : $row->{$which};
}

# --- Markdown ---

# all of it
sub markdown
{
	my ($run) = @_;

	return join "\n", full_table($run, 1), full_table($run, 0);
}

# what has floors and goals, in short
sub short_table
{
	my ($run) = @_;

	return facts_in_markdown($run) . table(
		[ grep { $_->{core} } @{ $run->{rows} } ],
		[ '', 'idem', 'against', 'conditions', 'ratio [95 % interval]', 'floor', 'goal', 'verdict' ],
		sub {
			my ($row) = @_;

			return ($row->{conditions}, $row->{skipped} ? '' : ratio($row), map({ limit($row, $_) } qw(floor goal)), verdict($row));
		});
}

# all about it, or about the peers
sub full_table
{
	my ($run, $core) = @_;
	my @rows = grep { ($_->{core} // 0) == $core } @{ $run->{rows} };
	my @counted = grep { $_->{instructions} } @rows;

	return facts_in_markdown($run) . table(
		\@rows,
		[
			'', 'idem', 'against', 'conditions', 'idem : other', 'server µs', @counted ? 'instructions' : (),
			'ratio [95 % interval]', $core ? ('floor', 'goal') : (), 'verdict'
		],
		sub {
			my ($row) = @_;

			return (
				$row->{conditions},
				$row->{skipped} ? '' : value($row, $row->{a}) . ' : ' . value($row, $row->{b}),
				pair($row->{server_us}),
				@counted ? pair($row->{instructions}) : (),
				$row->{skipped} ? '' : ratio($row),
				$core ? map({ limit($row, $_) } qw(floor goal)) : (),
				verdict($row));
		});
}

sub facts_in_markdown
{
	my ($run) = @_;

	return join('', map { s/([*_|])/\\$1/gr . "  \n" } facts($run)) . "\n";
}

# table(ROWS, HEAD, CELLS): what is done, and against what, is said once.
sub table
{
	my ($rows, $head, $cells) = @_;
	my $text = '| ' . join(' | ', @$head) . " |\n" . '|---' x @$head . "|\n";
	my $before = '';

	foreach my $row (@$rows)
	{
		my @title = ($row->{id}, $row->{what}, $row->{against});
		my @shown = "@title" eq $before ? ('', '', '') : @title;

		$before = "@title";
		$text .= '| ' . join(' | ', map { s/\|/\\|/gr } @shown, $cells->($row)) . " |\n";
	}
	return $text;
}

sub pair
{
	my ($pair) = @_;

	return $pair ? join(' : ', map { number($_) } @$pair) : '';
}

sub verdict
{
	my ($row) = @_;

	return $row->{skipped} ? "not measured: $row->{skipped}" : "**$row->{verdict}**";
}

# each statement that is measured, from bench/measures.pl
sub statements
{
	my ($measures) = @_;
	my ($text, %seen) = ('');

	foreach my $measure (@$measures)
	{
		$text .= "### $measure->{id}: $measure->{what}\n\n" unless $seen{"$measure->{id} $measure->{what}"}++;
		$text .= 'idem' . ($measure->{with} ? ", $measure->{with}" : '') . ":\n" . statement($measure, 'a');
		$text .= "against $measure->{against}" . ($measure->{b} ? ":\n" . statement($measure, 'b') : ".\n\n");
	}
	return $text;
}

# the tables and functions of bench/peers.sql, given its bytes, but for those of the measuring itself
sub tables
{
	my ($sql) = @_;
	my ($shown) = Encode::decode('UTF-8', $sql) =~ /^(CREATE SCHEMA .*?)\n\n--\n-- What the measuring itself needs\n/ms or die "peers.sql has no such part\n";

	return "```sql\n$shown\n```\n";
}

sub statement
{
	my ($measure, $side) = @_;
	my $body = $measure->{$side};
	my @steps = ref $body ? map { ($_->[0] eq 'begin' ? 'BEGIN;  -- in the same message' . "\n" : '') . clean($_->[1]) . ($_->[0] =~ /^(pg|begin)$/ ? ';' : "  -- $_->[0]") } @$body : clean($body) . ';';

	return "```sql\n" . join("\n", @steps) . "\n```\n\n";
}

# without the indentation that it has in Perl
sub clean
{
	my ($sql) = @_;

	$sql =~ s/^\s+|\s+$//g;
	$sql =~ s/\n\t+/\n    /g;
	return $sql;
}

# --- the chart ---

# Bars from 1 to the ratio, on a logarithmic scale; what is lower the better is turned over, so that right is good for idem.
sub chart
{
	my ($run) = @_;
	my @rows = grep { !$_->{skipped} && !$_->{absolute} } @{ $run->{rows} };
	my ($left, $width, $step, $top) = (800, 420, 20, 70);
	my @bars = map {
		my $row = $_;
		my %bar = map { $_ => $row->{lower} ? 1 / $row->{$_} : $row->{$_} } grep { $row->{$_} } qw(ratio low high floor goal);
		@bar{ 'low', 'high' } = @bar{ 'high', 'low' } if $row->{lower};
		\%bar
	} @rows;
	my ($least, $most) = (min(0.5, map { $_->{low} } @bars), max(2, map { max(grep { defined } @$_{qw(high floor goal)}) } @bars));
	my $x = sub { $left + $width * log($_[0] / $least) / log($most / $least) };
	my $height = $top + $step * @rows + 30;
	my @svg;

	push @svg, sprintf '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">',
	  $left + $width + 70, $height, $left + $width + 70, $height;
	push @svg, '<rect width="100%" height="100%" fill="white"/>';
	push @svg, text(10, 20, 'idem beside other ways: how many times as fast, with 95 % intervals', 'font-size="15" font-weight="bold"');
	push @svg, text(10, 38, "$run->{date}, PostgreSQL $run->{server}, $run->{processor}, $run->{cores} cores", 'fill="#555"');
	push @svg, text(10, 54, 'Right of the line idem is better. Thin mark: floor, thick mark: goal. (turned over): where lower is better.', 'fill="#555"');

	# a scale of 1, 2, 5
	foreach my $tick (map { my $ten = 10**$_; ($ten, 2 * $ten, 5 * $ten) } -4 .. 5)
	{
		next if $tick < $least || $tick > $most;
		my $at = $x->($tick);

		push @svg, sprintf '<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>', $at, $top - 4, $at, $height - 24, $tick == 1 ? '#000' : '#ddd';
		push @svg, text($at, $height - 10, 0 + $tick, 'text-anchor="middle"');
	}
	foreach my $i (0 .. $#rows)
	{
		my ($row, $bar) = ($rows[$i], $bars[$i]);
		my $y = $top + $step * $i;
		my ($from, $to) = sort { $a <=> $b } $x->(1), $x->($bar->{ratio});
		my $good = $row->{verdict} =~ /^(goal met|faster|less)$/ ? '#4a8f5a' : $row->{verdict} =~ /^(floor met|no difference)$/ ? '#c9a227' : '#b5524a';
		my $label = "$row->{id}  $row->{what}, $row->{conditions}, against $row->{against}" . ($row->{lower} ? ' (turned over)' : '');

		$label =~ s/, synchronous_commit on|, loop in the server, \w+ time|, a transaction each//g;
		$label = substr($label, 0, 139) . '…' if length $label > 140;
		push @svg, '<g>', '<title>' . escaped("$row->{what}, against $row->{against}: " . ratio($row) . ", $row->{verdict}") . '</title>';
		push @svg, text($left - 8, $y + 13, $label, 'text-anchor="end"');
		push @svg, sprintf '<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>', $from, $y + 3, max(1, $to - $from), $step - 7, $good;
		push @svg, sprintf '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000"/>', $x->($bar->{low}), $y + 9.5, $x->($bar->{high}), $y + 9.5;
		push @svg, map { sprintf '<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#000"/>', $x->($_), $y + 6, $x->($_), $y + 13 } @$bar{ 'low', 'high' };
		push @svg, map { sprintf '<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#225" stroke-width="%d"/>', $x->($bar->{$_}), $y + 1, $x->($bar->{$_}), $y + 18, $_ eq 'goal' ? 3 : 1 }
		  grep { $bar->{$_} } qw(floor goal);
		push @svg, text($left + $width + 12, $y + 13, short($row->{ratio}));
		push @svg, '</g>';
	}
	return join("\n", @svg, '</svg>') . "\n";
}

sub text
{
	my ($x, $y, $text, $attributes) = @_;

	return sprintf '<text x="%.1f" y="%.1f"%s>%s</text>', $x, $y, $attributes ? " $attributes" : '', escaped($text);
}

sub escaped
{
	my ($text) = @_;

	$text =~ s/&/&amp;/g;
	$text =~ s/</&lt;/g;
	$text =~ s/>/&gt;/g;
	return $text;
}

# --- the output directory ---

# load(DIRECTORY): the run that it has.
sub load
{
	my ($directory) = @_;

	return JSON::PP->new->utf8->decode(slurp("$directory/bench.json"));
}

# save(DIRECTORY, RUN): as JSON, as a chart and as tables.
sub save
{
	my ($directory, $run) = @_;

	spew("$directory/bench.json", JSON::PP->new->utf8->canonical->indent->encode($run));
	spew("$directory/bench.svg", Encode::encode('UTF-8', chart($run)));
	spew("$directory/bench.md", Encode::encode('UTF-8', markdown($run)));
	return;
}

# add_instructions(DIRECTORY, FILE): counts, each a line of row, side, calls and instructions; for one call it is what more calls add.
sub add_instructions
{
	my ($directory, $file) = @_;
	my $run = load($directory);
	my %count;

	foreach (split /\n/, slurp($file))
	{
		my ($row, $side, $n, $instructions) = split;

		push @{ $count{$row}{$side} }, [ $n, $instructions ];
	}
	print "\n";
	foreach my $number (sort { $a <=> $b } keys %count)
	{
		my $row = $run->{rows}[$number];

		$row->{instructions} = [ map {
			my ($few, $many) = @{ $count{$number}{$_} };
			($many->[1] - $few->[1]) / ($many->[0] - $few->[0])
		} 'a', 'b' ];
		printf "%-4s %s, against %s: instructions %s, %.2f times as few\n", map({ Encode::encode('UTF-8', $_) } @$row{qw(id what against)}),
		  pair($row->{instructions}), $row->{instructions}[1] / $row->{instructions}[0];
	}
	save($directory, $run);
	return;
}

# --- the documents ---

# update(DIRECTORY, RUN, MEASURES, PEERS): what stands between the marks in README.md and doc/performance.md below the directory.
sub update
{
	my ($directory, $run, $measures, $peers) = @_;
	my %parts = (
		short => short_table($run),
		goals => full_table($run, 1),
		peers => full_table($run, 0),
		statements => statements($measures),
		tables => tables($peers));

	foreach my $file ('README.md', 'doc/performance.md')
	{
		my $text = Encode::decode('UTF-8', slurp("$directory/$file"));

		$text =~ s{(<!-- bench: (?!end)(\w+) -->\n).*?(?=<!-- bench: end -->)}{
			my ($mark, $part) = ($1, $parts{$2} // die "$file: no part $2\n");
			$part =~ s/\n+\z//;
			"$mark\n$part\n\n"}gse;
		spew("$directory/$file", Encode::encode('UTF-8', $text));
	}
	return;
}

1;
