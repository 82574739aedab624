# Random calls under a policy, held to a model: keys with times, retries at random ages, purges at random moments, a retention that
# is shortened and lengthened, a policy that is dropped and made again, by both routes and at three isolation levels; then a dump that
# is restored, and a synchronous standby that is promoted. No key runs twice, and each refusal is right by the model.
#
# The times are real, and short: keys carry milliseconds, and retentions last as long as some hundred calls. A clock that is set
# back is what keys are that lie ahead, and what a longer retention does. The controls, without key_time, and without the mark, must run
# keys twice, or this proves nothing.
#
# IDEM_MODEL_CALLS: how many calls (5000). IDEM_MODEL_SEED: the seed, which is printed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use IdemTest;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $calls = $ENV{IDEM_MODEL_CALLS} // 5000;
my $seed = $ENV{IDEM_MODEL_SEED} // int(rand 2**31);
srand $seed;
note "seed $seed, $calls calls";

my @ways = map { my $route = $_; map { [ $route, $_ ] } ('read committed', 'repeatable read', 'serializable') } qw(off on);

# new_model(): what is known of the source; times in milliseconds, of which only bounds are known.
sub new_model
{
	return { keys => {}, order => [], low => 0, high => 0, shared => [ 0, 0 ], retention => 0, purged => 0, doubles => [], wrong => [], said => {} };
}

# now(): in milliseconds.
sub now { return time() * 1000 }

# sessions(NODE, DBNAME): one for each way.
sub sessions
{
	my ($node, $dbname) = @_;

	return map {
		my $session = IdemTest::Session->new($node, dbname => $dbname);
		$session->ask("SET idem.force_sql = $_->[0]; SET default_transaction_isolation = '$_->[1]'; SET client_min_messages = error");
		$session
	} @ways;
}

# key_of(MODEL): a new key, or one that was called before, of a random age.
sub key_of
{
	my ($model) = @_;

	if (@{ $model->{order} } && rand() < 0.6)
	{
		my $n = @{ $model->{order} };
		my $age = int($n * rand()**(1 + int(rand 4)));
		return $model->{order}[ $n - 1 - ($age < $n ? $age : $n - 1) ];
	}
	my $key = int(now() + 300 - rand(rand() < 0.2 ? 4000 : 600)) . '-' . scalar @{ $model->{order} };
	push @{ $model->{order} }, $key;
	$model->{keys}{$key} = { time => int $key =~ s/-.*//r, ran => 0 };
	return $key;
}

# wanted(MODEL, KEY, BEFORE, AFTER): what a call between these times may answer: duplicate, gone, first.
sub wanted
{
	my ($model, $key, $before, $after) = @_;
	my $known = $model->{keys}{$key};

	return 'duplicate' if $known->{recorded};
	return 'first gone' if $model->{no_key_time};
	return 'gone' if $known->{time} <= max($model->{low}, $before - $model->{retention});
	return 'first' if $known->{time} > max($model->{high}, $after - $model->{retention});
	return 'first gone';
}

# judge(MODEL, KEY, GOT, BEFORE, AFTER, COMMITTED): a call has answered.
sub judge
{
	my ($model, $key, $got, $before, $after, $committed) = @_;
	my $wanted = wanted($model, $key, $before, $after);
	my $known = $model->{keys}{$key};

	$model->{said}{$got}++;
	push @{ $model->{wrong} }, "$key: $got, not $wanted" unless $model->{control} || $wanted =~ /\b\Q$got\E\b/;
	return unless $got eq 'first' && $committed;
	push @{ $model->{doubles} }, $key if $known->{ran}++;
	@$known{qw(recorded from to)} = (1, $before, $after);
	return;
}

# answer_of(TEXT): t, f or an error, as judge knows it.
sub answer_of
{
	my ($text) = @_;
	return { t => 'first', f => 'duplicate', 'ERROR ID410' => 'gone' }->{$text} // $text;
}

# raise(MODEL, BEFORE, AFTER, AGE): a purge between these times has raised the mark to what was that old.
sub raise
{
	my ($model, $before, $after, $age) = @_;
	$model->{low} = max($model->{low}, $before - $age);
	$model->{high} = max($model->{high}, $after - $age);
	return;
}

my %calls = (
	claim => sub {
		my ($model, $session) = @_;
		my $key = key_of($model);
		my $before = now();
		my $got = answer_of($session->ask("SELECT idem_claim('model', '$key')"));
		judge($model, $key, $got, $before, now(), 1);
	},
	rolled_back => sub {
		my ($model, $session) = @_;
		my $key = key_of($model);
		my ($begin, $end) = rand() < 0.5 ? ('BEGIN', 'ROLLBACK') : ('BEGIN; SAVEPOINT s', 'ROLLBACK TO s; COMMIT');
		$session->ask($begin);
		my $before = now();
		my $got = answer_of($session->ask("SELECT idem_claim('model', '$key')"));
		judge($model, $key, $got, $before, now(), 0);
		$session->ask($end);
	},
	cancel => sub {
		my ($model, $session) = @_;
		my $key = key_of($model);
		my $before = now();
		my $got = $session->ask("SELECT idem_cancel('model', '$key')");
		my $after = now();
		my $recorded = $model->{keys}{$key}{recorded};
		judge($model, $key, $got eq 'ERROR ID410' ? 'gone' : $recorded ? 'duplicate' : 'first', $before, $after, 0);
		@{ $model->{keys}{$key} }{qw(recorded from to)} = (1, $before, $after) if $got eq 'cancelled' && !$recorded;
	},
	attempt => sub {
		my ($model, $session) = @_;
		my $key = key_of($model);
		my $before = now();
		my $got = $session->ask("SELECT status FROM idem_begin('model', '$key', '1 day')");
		judge($model, $key, $got eq 'granted' ? 'first' : $got =~ /^(?:done|cancelled)$/ ? 'duplicate' : answer_of($got), $before, now(), 1);
		return if $got ne 'granted';
		$before = now();
		is($session->ask("SELECT idem_complete('model', '$key', 1)"), 't', 'completed');
		@{ $model->{keys}{$key} }{qw(from to)} = ($before, now());
	},
	batch => sub {
		my ($model, $session) = @_;
		my %keys = map { key_of($model) => 1 } 1 .. 5;
		my $list = join ',', map { "'$_'" } sort keys %keys;
		my $before = now();
		my $got = $session->ask("SELECT seq || ' ' || status FROM idem_claim_batch('model', ARRAY[$list])");
		my $after = now();
		my $rows = 0;
		for (split /\n/, $got)
		{
			my ($key, $status) = /^(\S+) (\w+)$/ or do { push @{ $model->{wrong} }, "batch: $_"; next };
			judge($model, $key, $status eq 'claimed' ? 'first' : $status eq 'gone' ? 'gone' : 'duplicate', $before, $after, 1);
			$rows++;
		}
		push @{ $model->{wrong} }, "batch: $got" if $rows != keys %keys;
	},
	lookup => sub {
		my ($model, $session) = @_;
		my $key = key_of($model);
		my $before = now();
		my $got = $session->ask("SELECT coalesce(status, 'first') FROM idem_lookup('model', '$key')");
		judge($model, $key, $got =~ /^(?:done|cancelled)$/ ? 'duplicate' : $got, $before, now(), 0);
	},
	purge => sub {
		my ($model, $session) = @_;
		my @how = ('', 'batch => 7', "source => 'model'", "'1 hour'", "'150 milliseconds'");
		my $how = $how[ rand @how ];
		my $before = now();
		my $got = $session->ask("CALL idem_purge($how)");
		my $after = now();
		push @{ $model->{wrong} }, "purge: $got" if $got ne '';
		raise($model, $before, $after, $model->{retention});
		@{ $model->{shared} } = (max($model->{shared}[0], $before - 150), max($model->{shared}[1], $after - 150)) if $how =~ /150/;
		$model->{purged} += forget($model, $session, $before - $model->{retention}, $after - $model->{retention});
		$session->ask("UPDATE idem.policy SET mark = '-infinity'; SELECT idem_policy('model', not_before => '2000-01-01')") if $model->{no_mark};
	},
	retention => sub {
		my ($model, $session) = @_;
		$model->{retention} = 20 + int rand(rand() < 0.5 ? 200 : 2000);
		is($session->ask("SELECT idem_policy('model', '$model->{retention} milliseconds')"), '', 'retention') if !$model->{dropped};
	},
	not_before => sub {
		my ($model, $session) = @_;
		my $time = now() - 400;
		$session->ask(sprintf "SELECT idem_policy('model', not_before => to_timestamp(%.3f))", $time / 1000);
		$model->{low} = max($model->{low}, $time - 1);
		$model->{high} = max($model->{high}, $time + 1);
	},
	dropped => sub {
		my ($model, $session) = @_;
		$session->ask("SELECT idem_policy_drop('model')");
		for (1 .. rand 3)
		{
			my $age = int rand 300;
			my $before = now();
			$session->ask('CALL idem_purge(' . ($age ? "'$age milliseconds'" : '') . ')');
			next unless $age;
			my $after = now();
			@{ $model->{shared} } = (max($model->{shared}[0], $before - $age), max($model->{shared}[1], $after - $age));
			$model->{purged} += forget($model, $session, $before - $age, $after - $age);
		}
		my $key_time = $model->{no_key_time} ? '' : ", 'unix'";
		is($session->ask("SELECT idem_policy('model', '$model->{retention} milliseconds'$key_time)"), '', 'made again');
		$model->{low} = max($model->{low}, $model->{shared}[0]);
		$model->{high} = max($model->{high}, $model->{shared}[1]);
	});
my @mix = (
	('claim') x 60, ('rolled_back') x 6, ('cancel') x 4, ('attempt') x 5, ('batch') x 5, ('lookup') x 4, ('purge') x 8,
	('retention') x 5, 'not_before', ('dropped') x 2);

# forget(MODEL, SESSION, LOW, HIGH): a purge with a cutoff between these has gone by: what it removed was due, and what was due is gone.
sub forget
{
	my ($model, $session, $low, $high) = @_;
	my %there = map { $_ => 1 } split /\n/, $session->ask("SELECT seq FROM idem.claim WHERE source = 'model'");
	my $removed = 0;

	for my $key (grep { $model->{keys}{$_}{recorded} } keys %{ $model->{keys} })
	{
		my $known = $model->{keys}{$key};
		if ($there{$key})
		{
			push @{ $model->{wrong} }, "$key is still there"
			  if !$model->{control} && $known->{to} < $low && $known->{time} < $low;
			next;
		}
		push @{ $model->{wrong} }, "$key was purged too early"
		  if !$model->{control} && ($known->{from} >= $high || $known->{time} >= $high);
		$known->{recorded} = 0;
		$removed++;
	}
	return $removed;
}

# run(MODEL, NUMBER, SESSION...): so many random calls.
sub run
{
	my ($model, $number, @sessions) = @_;

	for (1 .. $number)
	{
		my $call = $mix[ rand @mix ];
		next if $call eq 'lookup' && $model->{control};
		$calls{$call}->($model, $sessions[ rand @sessions ]);
	}
	return;
}

# verdict(MODEL, WHAT)
sub verdict
{
	my ($model, $what) = @_;

	is_deeply($model->{wrong}, [], "$what: each answer is right");
	is_deeply($model->{doubles}, [], "$what: no key has run twice");
	note "$what: " . join(', ', map { "$_ $model->{said}{$_}" } sort keys %{ $model->{said} }) . ", $model->{purged} purged";
	cmp_ok($model->{said}{$_} // 0, '>', 0, "$what: some were $_") for qw(first duplicate gone);
	return;
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "max_connections = 100\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION idem');
$primary->backup('base');

my $model = new_model();
$primary->safe_psql('postgres', "SELECT idem_policy('model', '300 milliseconds', 'unix')");
$model->{retention} = 300;
my @sessions = sessions($primary, 'postgres');
run($model, $calls * 0.5, @sessions);
$_->end for @sessions;
verdict($model, 'one server');

# a dump, restored: what it holds goes on
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$primary->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $primary->connstr('postgres') ], 'dumped');
$primary->safe_psql('postgres', 'CREATE DATABASE restored');
$primary->command_ok([ 'pg_restore', '-d', $primary->connstr('restored'), $dump ], 'restored');
@sessions = sessions($primary, 'restored');
run($model, $calls * 0.25, @sessions);
$_->end for @sessions;
verdict($model, 'restored');

# a synchronous standby, promoted
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
$primary->reload;
$primary->wait_for_catchup($standby);
@sessions = sessions($primary, 'restored');
run($model, $calls * 0.1, @sessions);
my $reader = IdemTest::Session->new($standby, dbname => 'restored');
$primary->wait_for_catchup($standby, 'replay');
for (1 .. 20)
{
	my $key = key_of($model);
	my $before = now();
	my $got = $reader->ask("SELECT coalesce(status, 'first') FROM idem_lookup('model', '$key')");
	judge($model, $key, $got =~ /^(?:done|cancelled)$/ ? 'duplicate' : $got, $before, now(), 0);
}
is($reader->ask("SELECT idem_policy('model', '1 day')"), 'ERROR 25006', 'a policy is not made on a standby');
like($reader->ask("SELECT idem_retention('model')"), qr/^\d\d:/, '… and what is promised is known there');
$_->end for @sessions, $reader;
$primary->stop('immediate');
$standby->promote;
@sessions = sessions($standby, 'restored');
run($model, $calls * 0.15, @sessions);
$_->end for @sessions;
verdict($model, 'promoted');

# the controls: without key_time, and without the mark
for my $control (qw(no_key_time no_mark))
{
	my $weak = new_model();
	@$weak{ 'control', $control, 'retention' } = (1, 1, 300);
	my $dbname = "control_$control";
	$standby->safe_psql('postgres', "CREATE DATABASE $dbname");
	$standby->safe_psql($dbname, 'CREATE EXTENSION idem');
	$standby->safe_psql($dbname, "SELECT idem_policy('model', '300 milliseconds', '" . ($control eq 'no_mark' ? 'unix' : 'none') . "')");
	@sessions = sessions($standby, $dbname);
	run($weak, 500, @sessions) for 1 .. 3;
	# a slow machine makes few calls while a key is remembered
	for (1 .. 20)
	{
		last if @{ $weak->{doubles} };
		run($weak, 500, @sessions);
	}
	note "control $control: " . scalar(@{ $weak->{doubles} }) . ' keys ran twice';
	cmp_ok(scalar @{ $weak->{doubles} }, '>', 0, "control $control: keys run twice");
	@{ $weak->{doubles} } = ();
	# one for certain: a key that is forgotten under a short retention is called again under a long one
	my $sure = int(now()) . '-sure';
	$weak->{keys}{$sure} = { time => int(now()), ran => 0 };
	for (1 .. 2)
	{
		$sessions[0]->ask("SELECT idem_policy('model', '1 hour')");
		my $before = now();
		judge($weak, $sure, answer_of($sessions[0]->ask("SELECT idem_claim('model', '$sure')")), $before, now(), 1);
		$sessions[0]->ask("SELECT idem_policy('model', '20 milliseconds')");
		select undef, undef, undef, 0.1;
		$calls{purge}->($weak, $sessions[0]);
	}
	$_->end for @sessions;
	is("@{ $weak->{doubles} }", $sure, "… and the one that is sure to");
}

done_testing();
