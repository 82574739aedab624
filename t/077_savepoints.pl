# Pins savepoints: calls of every primitive in one session, between SAVEPOINT, RELEASE, ROLLBACK TO, COMMIT, ROLLBACK and
# PREPARE TRANSACTION at random, give the answers of a plain model (Model.pm), and leave what it says in the tables; on
# both routes, and when the route is changed in mid-session. A lock that is no part of the transaction is found to be wrong.
# IDEM_SAVEPOINT_OPERATIONS: how many for each of the three; IDEM_SEED: begins where a failure said that it began.
# soak: IDEM_SAVEPOINT_OPERATIONS=100000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Model;
use PostgreSQL::Test::Utils;
use Test::More;

my $operations = $ENV{IDEM_SAVEPOINT_OPERATIONS} // 2000;
my $seed = $ENV{IDEM_SEED} // 20261123;
my $node = idem_node('savepoints', 'max_prepared_transactions = 2', 'fsync = off', 'autovacuum = off');

$node->safe_psql('postgres', Model::setup());

# A program for psql, made together with what it must answer: a list of statements and answers.
my ($model, @program, $prepared);

sub say_sql { push @program, [@_]; return }

# A call, by itself, or in a block that catches its error, or in one that is undone in any case.
sub say_call
{
	my ($aborted) = @_;
	my ($before, $tokens) = ($model->copy, $#{ $model->{tokens} });
	my ($sql, $answer, $variable) = $model->call;

	if ($aborted)
	{
		$model->restore($before);
		$#{ $model->{tokens} } = $tokens;
		return say_sql("SELECT $sql", '25P02');
	}
	return say_sql("SELECT $sql AS $variable \\gset", $answer) if $variable;

	my $how = rand();
	return say_sql("SELECT coalesce(($sql)::text, 'null')", $answer) if $how < 0.6;
	$sql =~ s/(:'token\d+')/{token}/;
	my $token = $1 // "''";
	my $function = $how < 0.85 ? 'caught' : 'undone';
	$model->restore($before) if $function eq 'undone';
	return say_sql("SELECT $function(replace(\$w\$$sql\$w\$, '{token}', quote_literal($token)))", $answer);
}

# A transaction: savepoints are a stack of names and copies of the model; a name may be there more than once.
sub say_transaction
{
	my $aborted = 0;
	my @stack = ([ '', $model->copy ]);

	say_sql('BEGIN ISOLATION LEVEL ' . ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')[ rand 3 ], '');
	$model->transaction(1);
	foreach (1 .. 3 + rand 25)
	{
		my $what = rand();
		my $name = (map { $_->[0] } @stack)[ rand @stack ];
		my ($top) = grep { $stack[$_][0] eq $name } reverse 0 .. $#stack;

		if ($name ne '' && ($aborted ? $what < 0.8 : $what < 0.15))
		{
			say_sql("ROLLBACK TO $name", '');
			$#stack = $top;
			$model->restore($stack[$top][1]);
			$aborted = 0;
		}
		elsif ($aborted)
		{
			last if $what < 0.3;
			say_call(1);
		}
		elsif ($what < 0.35)
		{
			push @stack, [ ('s1' .. 's4')[ rand 4 ], $model->copy ];
			say_sql("SAVEPOINT $stack[-1][0]", '');
		}
		elsif ($name ne '' && $what < 0.45)
		{
			say_sql("RELEASE $name", '');
			$#stack = $top - 1;
		}
		elsif ($what < 0.5)
		{
			say_sql(Model::books_sql(), $model->books);
		}
		else
		{
			say_call(0);
			$aborted = is_error($program[-1]);
		}
	}

	my $end = $aborted ? ('ROLLBACK', 'COMMIT')[ rand 2 ] : ('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK', 'PREPARE', 'PREPARE')[ rand 6 ];
	if ($end eq 'PREPARE')
	{
		my $id = 't' . ++$prepared;
		say_sql("PREPARE TRANSACTION '$id'", '');
		$end = ('COMMIT', 'ROLLBACK')[ rand 2 ];
		say_sql("$end PREPARED '$id'", '');
	}
	else
	{
		say_sql($end, '');
	}
	$model->restore($stack[0][1]) if $aborted || $end eq 'ROLLBACK';
	$model->transaction(0);
	return;
}

# Is what a statement must answer an error that ends the transaction, or the savepoint?
sub is_error
{
	my ($statement) = @_;
	return $statement->[0] !~ /^SELECT (caught|undone)\(/ && Model::is_error($statement->[1]);
}

# program(ROUTE, OPERATIONS, SEED): so many operations; keys are afresh after every 300, for most of them end up in a final state
sub program
{
	my ($route, $n, $from) = @_;
	my $afresh = 0;

	srand $from;
	@program = ();
	say_sql('SET idem.force_sql = ' . ($route eq 'sql' ? 'on' : 'off'), '');
	while (@program < $n)
	{
		if (@program >= $afresh)
		{
			$model = Model->new;
			$afresh = @program + 300;
			# \o: their answers are of no interest
			say_sql("\\o /dev/null\n" . Model::reset_sql() . "\n\\o", '');
		}
		# drawn in any case, so that all routes get the same operations
		my $switch = ('on', 'off')[ rand 2 ];
		say_sql("SET idem.force_sql = $switch", '') if rand() < 0.3 && $route eq 'switched';
		if (rand() < 0.8) { say_transaction() }
		else { say_call(0) }
		say_sql(Model::books_sql(), $model->books);
	}
	return;
}

# run(CHANGE): runs the program in one session; the first statement that answers otherwise, with those before it; CHANGE
# may put something else in place of what is called.
sub run
{
	my ($change) = @_;
	my $file = $node->basedir . '/program.sql';
	my $n = 0;
	my $script = '';

	foreach my $statement (@program)
	{
		my $sql = $change ? $change->($statement->[0]) : $statement->[0];
		$sql .= $sql =~ /AS (\w+) \\gset$/ ? "\n\\echo set :{?$1}\n" : "\n;\n";
		$script .= $sql . '\echo =' . $n++ . " :SQLSTATE\n";
	}

	unlink $file;
	append_to_file($file, "\\set VERBOSITY sqlstate\n$script");
	my ($ret, $out) = $node->psql('postgres', "\\i $file", extra_params => ['-Atq'], on_error_stop => 0);
	my @got;
	my $answer = '';
	foreach my $line (split /\n/, $out)
	{
		if ($line =~ /^=(\d+) (\w{5})$/)
		{
			chomp $answer;
			$got[$1] = $2 eq '00000' ? $answer : $2;
			$answer = '';
			next;
		}
		$answer .= "$line\n";
	}
	foreach my $i (0 .. $#program)
	{
		my $got = $got[$i] // 'nothing: the session ended';
		next if $got eq $program[$i][1];
		my $from = $i < 40 ? 0 : $i - 40;
		return join "\n", "seed $seed, statement $i", (map { "$_->[0];" } @program[ $from .. $i ]), "answered: $got", "model says: $program[$i][1]";
	}
	return '';
}

foreach my $route ('direct', 'sql', 'switched')
{
	program($route, $operations, $seed);
	is(run(), '', "$route: " . @program . ' operations answer as the model');
}
note("figures: $operations operations on each of three routes, seed $seed");
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'no prepared transaction left');
ok(!$node->log_contains('WARNING:.*leak|PANIC:|TRAP:|was terminated by signal'), 'nothing leaked');

# the controls: the test sees what it is for
program('direct', 800, 1);
isnt(run(sub { $_[0] =~ s/idem_(claim|forget)\(/wrong_$1(/r }),
	'', 'a lock outside of the transaction is found to be wrong');
isnt(run(sub { $_[0] =~ s/^ROLLBACK TO (\w+)$/RELEASE $1; SAVEPOINT $1/r }), '', 'a rollback that is none is found');

$node->stop;
done_testing();
