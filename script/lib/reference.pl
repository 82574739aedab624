# doc/reference.md, from the catalog of a database that has idem: every function with signature, defaults, result, errors, who may call
# it, and whether it writes or waits.
#
#	reference.pl
#
# Asks the psql that is first in the path, which follows PGHOST and the like. Prints the page; what the catalog cannot say, whether
# a function writes or waits, stands in %does, and a function that is not in it ends this.
use strict;
use warnings;

# Whom most functions wait for.
my $row_or_key = 'for a transaction that is at the same key';

# Functions, by family, in the order of the page; of each what it writes and whom it waits for. Those that read are in %reads.
my @families = (
	[ 'Claims', 'claims.md', qw(idem_claim idem_claim_batch idem_respond idem_response idem_lookup idem_call idem_handle idem_cancel idem_forget idem_purge) ],
	[ 'Attempts', 'attempts.md', qw(idem_begin idem_begin_batch idem_renew idem_complete idem_fail idem_unsettled) ],
	[ 'Locks', 'locks.md', qw(idem_lock idem_lock_renew idem_lock_check idem_unlock idem_lock_lookup idem_lock_break) ],
	[ 'Tokens', 'tokens.md', qw(idem_token_issue idem_token_consume idem_token_rotate idem_token_status idem_token_rekey) ],
	[ 'Rows', 'rows.md', qw(idem_deduct idem_lock_row idem_insert idem_version idem_newer) ],
	[ 'State machines', 'state-machines.md', qw(idem_machine idem_machine_graph idem_verdict idem_state idem_advance) ],
	[
		'Stock', 'stock.md',
		qw(idem_stock_add idem_stock_remove idem_stock_reserve idem_stock_reserve_items idem_stock_amend idem_stock_renew idem_stock_confirm
		  idem_stock_release idem_stock_lookup idem_stock_available idem_stock_expire)
	],
	[ 'Policies', 'policies.md', qw(idem_policy idem_policy_drop idem_retention) ],
	[ 'Owners', 'security.md', qw(idem_reassign) ],
	[ 'Monitoring', 'monitoring.md', qw(idem_stat_reset idem_stat_counters idem_stat_runs) ],
	[ 'More than one machine', 'scaling.md', qw(idem_distribute) ]);

my %reads = map { $_ => 1 } qw(idem_response idem_lookup idem_unsettled idem_lock_lookup idem_token_status idem_machine_graph idem_verdict
  idem_stock_lookup idem_stock_available idem_retention idem_stat_counters idem_stat_runs);

my %does = (
	idem_claim => [ 'a row, if it is the first', "$row_or_key, unless `wait => false`" ],
	idem_claim_batch => [ 'a row for each key that is claimed', "$row_or_key, unless `wait => false`" ],
	idem_respond => [ 'the answer, once', $row_or_key ],
	idem_call => [ 'a row with the answer, if it is the first, and what the function writes', "$row_or_key, unless `wait => false`" ],
	idem_handle => [ 'as idem_call', 'as idem_call' ],
	idem_cancel => [ 'a row, if the key had not run', $row_or_key ],
	idem_forget => [ 'removes the row', $row_or_key ],
	idem_purge => [ 'removes rows, with a commit after each batch; not inside a transaction block', 'for a transaction that changes a row that is due' ],
	idem_begin => [ 'a row, or the next fence, if it grants', "$row_or_key, unless `wait => false`" ],
	idem_begin_batch => [ 'as idem_begin, for each key that is granted', "$row_or_key, unless `wait => false`" ],
	idem_renew => [ 'the new lease', $row_or_key ],
	idem_complete => [ 'the answer, once', $row_or_key ],
	idem_fail => [ 'the failure, once', $row_or_key ],
	idem_lock => [ 'the row of the name, if it grants', 'never' ],
	idem_lock_renew => [ 'the new lease', 'for a transaction that has checked, or is at, the lock' ],
	idem_lock_check => [ 'a row lock until the end of the transaction', 'for a transaction that is taking, renewing or releasing it' ],
	idem_unlock => [ 'that it is free', 'for a transaction that has checked, or is at, the lock' ],
	idem_lock_break => [ 'that it is free', 'for a transaction that has checked, or is at, the lock' ],
	idem_token_issue => [ 'nothing; a count, with `max_issues`', 'with `max_issues`, for a transaction that issues for the same purpose and subject' ],
	idem_token_consume => [ 'a row, if the token is live', 'for a transaction that is consuming it' ],
	idem_token_rotate => [ 'a row, if the token is live', 'for a transaction that is consuming it' ],
	idem_token_rekey => [ 'a new secret', 'for another rekeying' ],
	idem_deduct => [ 'the row, if it has enough', 'for a transaction that is at the row' ],
	idem_lock_row => [ 'a row lock until the end of the transaction', 'for a transaction that is at the row' ],
	idem_insert => [ 'the row, if it is not there', 'for a transaction that inserts or changes the row' ],
	idem_version => [ 'the column, in the update that fires it', 'never' ],
	idem_newer => [ 'nothing', 'never' ],
	idem_state => [ 'nothing; with `late=keep` the old state, in the update that fires it', 'never' ],
	idem_machine => [ 'the machine, if it is another one than before', 'for another definition of it' ],
	idem_advance => [ 'the row, if the move applies', 'for a transaction that is at the row' ],
	idem_stock_add => [ 'the item', 'for a transaction that is at the bucket' ],
	idem_stock_remove => [ 'the item, if it has enough', 'for a transaction that is at what it needs' ],
	idem_stock_reserve => [ 'the hold and the item, if there is enough', 'for a transaction that is at the same order; for one that is at the item, if what is free does not suffice' ],
	idem_stock_reserve_items => [ 'as idem_stock_reserve', 'as idem_stock_reserve' ],
	idem_stock_amend => [ 'the hold and the item, if there is enough', 'as idem_stock_reserve' ],
	idem_stock_renew => [ 'when the hold ends', 'for a transaction that is at the same order' ],
	idem_stock_confirm => [ 'that it is final, once', 'for a transaction that is at the same order' ],
	idem_stock_release => [ 'the hold and the item, once', 'for a transaction that is at the same order' ],
	idem_stock_expire => [ 'holds that are overdue, and their items, with a commit after each batch; not inside a transaction block', 'for no open transaction' ],
	idem_policy => [ 'the policy', 'for the running batch of a purge' ],
	idem_policy_drop => [ 'the policy', 'for the running batch of a purge' ],
	idem_reassign => [ 'the owner, in each of the records', 'for all transactions that have written to idem\'s tables' ],
	idem_stat_reset => [ 'the counters, which are in shared memory', 'never' ],
	idem_distribute => [ 'makes idem\'s tables distributed', 'for all who use them' ]);

my %error = (
	ID404 => 'no such claim, attempt, hold or row',
	ID409 => 'in progress: elsewhere (try again later), or in this transaction (a mistake; the DETAIL says which)',
	ID410 => 'the key is older than what is remembered: whether it was done is no longer known, so it is not run',
	ID412 => 'fence, version or recorded answer is no longer the caller\'s: read again first',
	ID422 => 'same key, different request',
	ID429 => 'too many tokens asked for',
	ID460 => 'transition is not allowed',
	'0A000' => 'a rule replaces the statement; `idem_distribute` without Citus',
	22001 => 'the column does not hold the value whole',
	22003 => 'a number out of range',
	22004 => 'NULL where a value is needed',
	22023 => 'empty, too long, not positive, or not one of the values there are',
	23502 => 'NOT NULL, of the table',
	23503 => 'a foreign key, of the table',
	23505 => 'another unique index, of the table',
	23514 => 'a check, of the table',
	'23P01' => 'an exclusion constraint, of the table',
	25000 => 'a call in a parallel worker',
	25001 => '`CALL` inside a transaction block',
	25006 => 'a standby, or a read-only transaction',
	'39P01' => 'a trigger that is made wrongly, or that changes or suppresses what must be written',
	40001 => 'run the transaction again',
	'40P01' => 'a deadlock: run the transaction again',
	42501 => 'another role\'s record, or a privilege is missing',
	42703 => 'no such column',
	42704 => 'no such role',
	42804 => 'a type that will not do; the HINT has the cast',
	42809 => 'not a table, not that kind of function, or a generated column',
	42883 => 'no such function',
	'42P01' => 'the table was dropped, perhaps one of idem\'s own',
	'42P10' => 'no unique index that finds one row, also of a table of idem\'s own',
	55000 => 'no secret to sign a token with; a deferrable constraint, for `idem_insert`; for `idem_distribute`, what is in its way',
	55006 => 'the table was altered by what it runs itself',
	'55P03' => '`lock_timeout`; `wait => false` raises ID409 instead',
	57014 => 'cancelled, or `statement_timeout`');

my $functions = ask(<<'END');
SELECT p.proname, p.prokind, p.proretset, pg_catalog.format_type(p.prorettype, NULL), pg_catalog.obj_description(p.oid, 'pg_proc'),
	EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a WHERE a.grantee = 0),
	EXISTS (SELECT FROM pg_catalog.aclexplode(p.proacl) AS a WHERE a.grantee = 'pg_monitor'::pg_catalog.regrole),
	(SELECT pg_catalog.string_agg(CASE a.mode WHEN 'v' THEN 'VARIADIC ' ELSE '' END || a.name || ' ' || pg_catalog.format_type(a.type, NULL)
			|| coalesce(' DEFAULT ' || pg_catalog.regexp_replace(pg_catalog.pg_get_function_arg_default(p.oid, a.n::int), '^(NULL|''[^'']*'')::.*$', '\1'), ''), ', ' ORDER BY a.n)
		FROM ROWS FROM (pg_catalog.unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])), pg_catalog.unnest(p.proargnames), pg_catalog.unnest(p.proargmodes)) WITH ORDINALITY AS a(type, name, mode, n)
		WHERE coalesce(a.mode, 'i') IN ('i', 'v')),
	(SELECT pg_catalog.string_agg(a.name || ' ' || pg_catalog.format_type(a.type, NULL), ', ' ORDER BY a.n)
		FROM ROWS FROM (pg_catalog.unnest(p.proallargtypes), pg_catalog.unnest(p.proargnames), pg_catalog.unnest(p.proargmodes)) WITH ORDINALITY AS a(type, name, mode, n)
		WHERE a.mode = 'o')
FROM pg_catalog.pg_proc AS p
	JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
		AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
	JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'idem'
ORDER BY p.proname COLLATE "C", pg_catalog.pg_get_function_identity_arguments(p.oid) COLLATE "C"
END
my %overloads;
push @{ $overloads{ $_->[0] } }, $_ foreach @$functions;

my @page = (<<'END');
# Reference

Every function, from the catalog of the extension: `script/reference` writes this page, and a test compares it. `CREATE EXTENSION idem SCHEMA …` chooses
the schema of the functions; idem's own tables are in the schema `idem`, which only their owner may touch.

* Arguments can be given by name (`wait => false`). Those with a DEFAULT can be left out.
* `anycompatible`: a key; text, varchar, smallint, integer, bigint, uuid, a domain over one of these, an untyped literal or parameter. Any other type raises 42804.
* `jsonb` is what is compared (requests), `json` what is replayed byte for byte (answers).
* An interval is elapsed time, whatever the session's TimeZone: a day is 24 hours, a month 30 days, twelve months 365.25 days.
* A transaction *is at* a key, an order, a lock or a row if it has written or locked its row and has not ended.
* Every function may raise what waiting can raise: 40P01, 55P03, 57014.
* *Everybody*: PUBLIC may execute it, and `REVOKE` can change that. *Administrators*: the owner of the extension, superusers, and roles that were
  granted EXECUTE. What a role has recorded is open to roles that may act as it; others get 42501.
END

my %placed;
foreach my $family (@families)
{
	my ($title, $file, @names) = @$family;

	@names = grep { $overloads{$_} } @names or next;
	push @page, "## $title\n\nMore: [$file]($file).\n";
	push @page, map { $placed{$_} = 1; described($overloads{$_}) } @names;
}
my @homeless = grep { !$placed{$_} } sort keys %overloads;
die "add to script/lib/reference.pl: @homeless\n" if @homeless;
push @page, views(), settings(), errors();
print join "\n", @page;

# ask(SQL): the rows, as lists of text.
sub ask
{
	my ($sql) = @_;

	open my $in, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', "\x1f", '-R', "\x1e", '-c', "SET search_path = ''", '-c', $sql or die "psql: $!\n";
	local $/ = undef;
	my $out = readline $in;
	close $in or die "psql failed\n";
	$out =~ s/\s+\z//;
	return [ map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $out ];
}

# described(FUNCTIONS): the section of a name.
sub described
{
	my ($functions) = @_;
	my ($name) = @{ $functions->[0] };
	my @text = ("### $name\n", "```text\n" . join("\n", map { signature($_) } @$functions) . "\n```\n");
	my ($function) = grep { $_->[4] !~ /^as $name / } @$functions;
	my ($said, $errors) = $function->[4] =~ /\A(.*?)(?:; errors: (.*))?\z/s or die "$name has no comment\n";

	$said =~ s/; writes nothing.*?(?=; |\z)//;
	$said =~ s/\Afor administrators: //;
	$said =~ s/\btrue: (.*?), false: /true: $1; false: /;
	$said =~ s/(\([^()]*\))/$1 =~ tr{;}{\x01}r/ge;    # what is in parentheses stays together
	my ($first, @rest) = map { tr/\x01/;/r } split /; (?=[a-z_]+(?: [a-z]+)?(?: \([^)]*\))?: )/, $said;
	push @text, ucfirst(code($first)) . ".\n";
	push @text, join('', map { /^([a-z_]+(?: [a-z]+)?(?: \([^)]*\))?): (.*)$/s ? "* `$1`: " . code($2) . "\n" : "* $_\n" } @rest) if @rest;
	foreach my $other (grep { $_ != $function } @$functions)
	{
		my ($differs) = $other->[4] =~ /\A(.*?)(?:; errors: .*)?\z/s;
		push @text, 'The second form: ' . code($differs) . ".\n";
	}
	my ($writes, $waits) = $reads{$name} ? ('nothing; works on a standby', 'never') : @{ $does{$name} // die "add $name to script/lib/reference.pl\n" };
	push @text, join '',
	  "| | |\n|---|---|\n",
	  '| who | ' . ($function->[5] eq 't' ? 'everybody' : $function->[6] eq 't' ? 'members of `pg_monitor`, administrators' : 'administrators') . " |\n",
	  "| writes | $writes |\n| waits | $waits |\n",
	  defined $errors ? '| errors | ' . code($errors) . " |\n" : '';
	while (defined $errors && $errors =~ /\b(ID\d{3}|[0-9][0-9A-Z]{4})\b/g)
	{
		die "$name: the page has no error $1: add it to script/lib/reference.pl\n" unless $error{$1};
	}
	return @text;
}

# signature(FUNCTION): on one line, or over several.
sub signature
{
	my ($function) = @_;
	my ($name, $kind, $set, $result, undef, undef, undef, $in, $out) = @$function;
	my $text = ($kind eq 'p' ? 'CALL ' : '') . "$name($in)";

	$out =~ s/timestamp with time zone/timestamptz/g;
	$result =~ s/timestamp with time zone/timestamptz/;
	$text =~ s/timestamp with time zone/timestamptz/g;
	return $text if $kind eq 'p';
	return "trigger $name" if $result eq 'trigger';
	my $answer = '→ ' . ($set eq 't' ? 'setof ' : '') . ($out ne '' ? "($out)" : $result);
	return length "$text $answer" > 120 ? "$text\n    $answer" : "$text $answer";
}

# code(TEXT): names of idem's and what is written in quotes, as code.
sub code
{
	my ($text) = @_;

	$text =~ s/\b(idem_\w+)/`$1`/g;
	$text =~ s/\|/\\|/g;
	return $text;
}

sub views
{
	my $columns = ask(<<'END');
SELECT c.relname, pg_catalog.obj_description(c.oid, 'pg_class'), a.attname, pg_catalog.format_type(a.atttypid, NULL), coalesce(pg_catalog.col_description(c.oid, a.attnum), '')
FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
		AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
	JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'idem'
	JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'v'
ORDER BY c.relname COLLATE "C", a.attnum
END
	my $before = '';
	my @text = ("## Views\n\nFor members of `pg_monitor`, in the schema of the functions. More: [monitoring.md](monitoring.md).\n");

	foreach (@$columns)
	{
		my ($view, $about, $column, $type, $means) = @$_;

		push @text, "### $view\n\n" . ucfirst(code($about)) . ".\n\n| column | type | |\n|---|---|---|\n" if $view ne $before;
		$text[-1] .= "| `$column` | $type | " . code($means) . " |\n";
		$before = $view;
	}
	return @text;
}

sub settings
{
	my $settings = ask(q{LOAD 'idem'; SELECT name, boot_val, context, short_desc FROM pg_catalog.pg_settings WHERE name LIKE 'idem.%' ORDER BY name COLLATE "C"});

	return "## Settings\n\n| setting | default | who sets it | |\n|---|---|---|---|\n"
	  . join('', map { "| `$_->[0]` | $_->[1] | " . ($_->[2] eq 'user' ? 'everybody' : $_->[2]) . " | $_->[3] |\n" } @$settings);
}

sub errors
{
	my @codes = sort { ($b =~ /^ID/) <=> ($a =~ /^ID/) || $a cmp $b } keys %error;

	return "## Errors\n\nEach has a DETAIL with the values and a HINT with the next step. The last three characters of class `ID` are the HTTP status that fits.\n\n"
	  . "| SQLSTATE | meaning |\n|---|---|\n" . join('', map { "| $_ | $error{$_} |\n" } @codes);
}
