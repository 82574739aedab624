# What script/bench says: verdicts, the printed table, the table in Markdown, the chart, and the documents that show them.
package Report;

use strict;
use warnings;
use utf8;

use Encode ();
use JSON::PP;
use List::Util qw(max min);

use KeysChart;

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
	  ($row->{server_us} ? sprintf('(server %.0f : %.0f µs)', @{ $row->{server_us} }) : '') . ($row->{note} ? "\n        $row->{note}" : '');
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

# What README shows, at most eight rows: the number, what is done, how the conditions begin.
my @front = (
	[ 'P1', qr/first claim/, '8 clients' ],
	[ 'P4', qr/idem_call/, '8 clients' ],
	[ 'P5', qr/idem_call/, '8 clients' ],
	[ 'P6', qr/batch/, 'loop in the server, processor time, ascending keys' ],
	[ 'P8', qr/idem_call/, '8 clients' ],
	[ 'P9', qr/claim/, '8 clients' ],
	[ 'P12', qr/reserve/, '32 clients' ],
	[ 'P13', qr/idem_state/, '' ]);

# the first row that fits each
sub front_rows
{
	my ($run) = @_;

	return grep { defined } map {
		my ($id, $what, $conditions) = @$_;
		(grep { $_->{id} eq $id && !$_->{skipped} && $_->{what} =~ $what && index($_->{conditions}, $conditions) == 0 } @{ $run->{rows} })[0]
	} @front;
}

# for README: a row, its ratio, no more
sub front_table
{
	my ($run) = @_;
	my ($machine, $software) = facts($run);
	my $text = "| idem | beside it | | times as fast |\n|---|---|---|---|\n";

	foreach my $row (front_rows($run))
	{
		$text .= '| ' . join(' | ', map { s/\|/\\|/gr } $row->{what}, $row->{against}, plain($row->{conditions}), ratio($row)) . " |\n";
	}
	return "$machine  \n$software\n\n$text";
}

# what has floors and goals, in short
sub compact_table
{
	my ($run) = @_;

	return facts_in_markdown($run) . table(
		[ grep { $_->{core} } @{ $run->{rows} } ],
		[ '', 'idem', 'beside it', 'conditions', 'ratio [95 % interval]', '' ],
		sub {
			my ($row) = @_;

			return (remarked($row, plain($row->{conditions})), $row->{skipped} ? ('', 'not measured') : (ratio($row), $row->{absolute} ? '' : side($row)));
		});
}

# the conditions of a row, without those that are the same for all
sub plain
{
	my ($conditions) = @_;

	$conditions =~ s/, synchronous_commit on|, processor time|, ascending keys|, a transaction each//g;
	return $conditions;
}

# remarked(ROW, CONDITIONS): with what was noticed in this run, and when it was another one than that of the others
sub remarked
{
	my ($row, $conditions) = @_;

	return join '; ', grep { defined && $_ ne '' } $conditions, $row->{note}, $row->{date} ? "of $row->{date}" : ();
}

# the instructions of both sides, and if they have limits their ratio with those
sub instructions
{
	my ($row) = @_;
	my $counts = $row->{instructions} or return '';
	my $limits = $row->{instruction_limits} // {};
	my @limits = map { defined $limits->{$_} ? "$_ $limits->{$_}" : () } qw(floor goal);

	return pair($counts) . sprintf(', %.2f', $counts->[0] / $counts->[1]) . (@limits ? ' (' . join(', ', @limits) . ')' : '');
}

# better, worse, or no difference, as the interval of a row says
sub side
{
	my ($row) = @_;
	my ($low, $high) = $row->{lower} ? (1 / $row->{high}, 1 / $row->{low}) : @$row{ 'low', 'high' };

	return $low > 1 ? 'better' : $high < 1 ? 'worse' : 'no difference';
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
				remarked($row, $row->{conditions}),
				$row->{skipped} ? '' : value($row, $row->{a}) . ' : ' . value($row, $row->{b}),
				pair($row->{server_us}),
				@counted ? instructions($row) : (),
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

my %colour = (better => '#3f8f5b', 'no difference' => '#9a9a9a', worse => '#c0554a');

# chart(RUN, ROW...): bars from 1 to the ratio, on a logarithmic scale, 830 pixels wide; what is lower the better is turned over, so that
# right is good for idem. Beside each stands what is done and what it is compared with, on as many lines as that takes.
sub chart
{
	my ($run, @rows) = @_;
	@rows = grep { !$_->{skipped} && !$_->{absolute} } @rows;
	my ($left, $width, $top) = (430, 320, 84);
	my @bars = map { bar($_) } @rows;
	my ($least, $most) = (min(0.5, map { $_->{low} } @bars), max(2, map { $_->{high} } @bars));
	my $x = sub { $left + $width * log($_[0] / $least) / log($most / $least) };
	my $y = $top;
	my @svg;

	foreach my $i (0 .. $#rows)
	{
		my ($row, $bar) = ($rows[$i], $bars[$i]);
		my @lines = labels($row);
		my $middle = $y + 7.5 * @lines + 4;
		my ($from, $to) = sort { $a <=> $b } $x->(1), $x->($bar->{ratio});
		my $color = $colour{ side($row) };

		push @svg, '<g>', '<title>' . escaped("$row->{what}, against $row->{against}, $row->{conditions}: " . ratio($row)) . '</title>';
		push @svg, map { text($left - 12, $y + 15 * $_ + 15, @{ $lines[$_] }) } 0 .. $#lines;
		push @svg, sprintf '<rect x="%.1f" y="%.1f" width="%.1f" height="18" fill="%s"/>', $from, $middle - 9, max(1, $to - $from), $color;
		push @svg, sprintf '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000"/>', $x->($bar->{low}), $middle, $x->($bar->{high}), $middle;
		push @svg, map { sprintf '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000"/>', $x->($_), $middle - 5, $x->($_), $middle + 5 } @$bar{ 'low', 'high' };
		push @svg, text(max($x->($bar->{high}), $to, $x->(1)) + 8, $middle + 5, short($bar->{ratio}));
		push @svg, '</g>';
		$y += 15 * @lines + 8;
	}

	# a scale of 1, 2, 5, behind the bars
	foreach my $tick (map { my $ten = 10**$_; ($ten, 2 * $ten, 5 * $ten) } -4 .. 5)
	{
		next if $tick < $least || $tick > $most;
		my $at = $x->($tick);

		unshift @svg, sprintf('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>', $at, $top - 4, $at, $y, $tick == 1 ? '#000' : '#ddd'),
		  text($at, $y + 18, 0 + $tick, 'text-anchor="middle"');
	}
	my $height = $y + 30;
	return join("\n",
		sprintf('<svg xmlns="http://www.w3.org/2000/svg" width="830" height="%d" viewBox="0 0 830 %d" font-family="sans-serif" font-size="13">', $height, $height),
		'<rect width="100%" height="100%" fill="white"/>', legend($run), @svg, '</svg>') . "\n";
}

# a row's ratio and interval, so that more is better
sub bar
{
	my ($row) = @_;
	my %bar = map { $_ => $row->{lower} ? 1 / $row->{$_} : $row->{$_} } qw(ratio low high);

	@bar{ 'low', 'high' } = @bar{ 'high', 'low' } if $row->{lower};
	return \%bar;
}

# the title, and what the colours mean
sub legend
{
	my ($run) = @_;
	my $at = 12;
	my @svg = (
		text(12, 24, 'idem beside other ways: how many times as fast', 'font-size="17" font-weight="bold"'),
		text(12, 44, "$run->{date}, PostgreSQL $run->{server}, $run->{processor}, $run->{cores} cores", 'fill="#555" font-size="12"'));

	foreach my $side ('better', 'no difference', 'worse')
	{
		push @svg, sprintf('<rect x="%d" y="56" width="12" height="12" fill="%s"/>', $at, $colour{$side}), text($at + 17, 67, $side, 'font-size="12"');
		$at += 45 + 7 * length $side;
	}
	push @svg, sprintf('<line x1="%d" y1="62" x2="%d" y2="62" stroke="#000"/>', $at, $at + 22), text($at + 28, 67, '95 % interval', 'font-size="12"');
	return @svg;
}

# the lines beside a bar, each a text and its attributes
sub labels
{
	my ($row) = @_;
	my $conditions = plain($row->{conditions});

	return (
		map({ [ $_, 'text-anchor="end"' ] } wrapped($row->{what} . ($conditions ne '' ? ", $conditions" : ''), 56)),
		map({ [ $_, 'text-anchor="end" fill="#555" font-size="12"' ] }
			wrapped("beside $row->{against}" . ($row->{lower} ? ' (lower is better: turned over)' : ''), 50)));
}

# wrapped(TEXT, LENGTH): its lines, none longer
sub wrapped
{
	my ($text, $length) = @_;
	my @lines = ('');

	foreach my $word (split / /, $text)
	{
		push @lines, '' if length("$lines[-1] $word") > $length;
		$lines[-1] .= ($lines[-1] eq '' ? '' : ' ') . $word;
	}
	return @lines;
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

# add_to(DIRECTORY, RUN, MEASURES): makes RUN the run that the directory has, with RUN's rows in place of the same ones, or if there are none
# behind those that come before them in the list of measures. Each such row says when it was measured.
sub add_to
{
	my ($directory, $run, $measures) = @_;
	my $old = load($directory);
	my $name = sub { join '|', map { $_ // '' } @{ $_[0] }{ qw(id what against), @_[ 1 .. $#_ ] } };
	my $rows = $old->{rows};

	foreach my $row (@{ $run->{rows} })
	{
		my ($place) = grep { $name->($rows->[$_], 'conditions') eq $name->($row, 'conditions') } 0 .. $#$rows;

		$row->{date} = $run->{date};
		if (defined $place)
		{
			$rows->[$place] = $row;
			next;
		}
		my ($own) = grep { $name->($measures->[$_]) eq $name->($row) } 0 .. $#$measures;
		my %before = map { $name->($_) => 1 } @$measures[ 0 .. ($own // $#$measures) ];
		$place = max(-1, grep { $before{ $name->($rows->[$_]) } } 0 .. $#$rows);
		splice @$rows, $place + 1, 0, $row;
	}
	%$run = %$old;
	return;
}

# save(DIRECTORY, RUN): as JSON, as a chart and as tables.
sub save
{
	my ($directory, $run) = @_;

	spew("$directory/bench.json", JSON::PP->new->utf8->canonical->indent->encode($run));
	spew("$directory/bench.svg", Encode::encode('UTF-8', chart($run, @{ $run->{rows} })));
	spew("$directory/front.svg", Encode::encode('UTF-8', chart($run, front_rows($run))));
	my $keys = KeysChart::chart($run);
	spew("$directory/keys.svg", Encode::encode('UTF-8', $keys)) if $keys;
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
		printf "%-4s %s, against %s: instructions %s\n", map { Encode::encode('UTF-8', $_) } @$row{qw(id what against)}, instructions($row);
	}
	save($directory, $run);
	return;
}

# --- the documents ---

# Files with marks.
our @documents = ('README.md', 'doc/performance.md', 'doc/performance-statements.md');

# update(DIRECTORY, RUN, MEASURES, PEERS): what stands between the marks in the documents below the directory.
sub update
{
	my ($directory, $run, $measures, $peers) = @_;
	my %parts = (
		front => front_table($run),
		core => compact_table($run),
		keys => KeysChart::table($run),
		goals => full_table($run, 1),
		peers => full_table($run, 0),
		statements => statements($measures),
		tables => tables($peers));

	foreach my $file (@documents)
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
