# Pins who may do what: eight roles, each with every function and every table of idem, taken from the catalog, on their own
# records and on another role's, by both routes. A function or table without an expectation here fails, and so does a
# refusal that leaves anything behind.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $node = idem_node('permissions');


# who is who
my @roles = (
	[ super => 'a superuser' ],
	[ dbowner => 'the owner of the database' ],
	[ recorder => 'whose records these are' ],
	[ member => 'a member of recorder' ],
	[ stranger => 'nothing but PUBLIC' ],
	[ visitor => 'USAGE on the schema idem' ],
	[ admin => 'EXECUTE on what is for administrators' ],
	[ reader => 'a member of pg_read_all_data' ]);
# who serves recorder's records
my %served = map { $_ => 1 } qw(super recorder member);
my %administers = map { $_ => 1 } qw(super admin);

# Every function: what it does to the role's own records, and to recorder's (none: it concerns no role's records).
# %s: the role's own schema and prefix. "admin" is for administrators only; "within": and only on the records of whom they may act as.
my %functions = (
	'idem_claim(text,anycompatible,jsonb,boolean)' => { own => q{SELECT idem_claim('%s', 'new')}, other => q{SELECT idem_claim('recorder', 'done')} },
	'idem_claim_batch(text,anycompatiblearray,boolean)' => { own => q{SELECT * FROM idem_claim_batch('%s', '{1, 2}')}, other => q{SELECT * FROM idem_claim_batch('recorder', '{free, done}')} },
	'idem_respond(text,anycompatible,json)' => { own => q{SELECT idem_claim('%1$s', 'r'), idem_respond('%1$s', 'r', '1')}, other => q{SELECT idem_respond('recorder', 'unanswered', '1')} },
	'idem_response(text,anycompatible)' => { own => q{SELECT idem_response('%s', 'x')}, other => q{SELECT idem_response('recorder', 'done')} },
	'idem_lookup(text,anycompatible)' => { own => q{SELECT * FROM idem_lookup('%s', 'x')}, other => q{SELECT * FROM idem_lookup('recorder', 'done')} },
	'idem_handle(text,anycompatible,regproc,jsonb,boolean,jsonb)' => { own => q{SELECT * FROM idem_handle('%s', 'c', 'public.echo', '{}')}, other => q{SELECT * FROM idem_handle('recorder', 'done', 'public.echo', '{}')} },
	'idem_call(text,anycompatible,regproc,jsonb,boolean,jsonb)' => { own => q{SELECT idem_call('%s', 'c', 'public.echo', '{}')}, other => q{SELECT idem_call('recorder', 'done', 'public.echo', '{}')} },
	'idem_cancel(text,anycompatible)' => { own => q{SELECT idem_cancel('%s', 'k')}, other => q{SELECT idem_cancel('recorder', 'open')} },
	'idem_forget(text,anycompatible)' => { admin => 1, within => 1, own => q{SELECT idem_forget('%s', 'x')}, other => q{SELECT idem_forget('recorder', 'done')} },
	'idem_purge(interval,integer,text)' => { admin => 1, own => q{CALL idem_purge('100 years')} },
	'idem_policy(text,interval,text,timestamp with time zone)' => { admin => 1, own => q{SELECT idem_policy('%s', '1 day')} },
	'idem_policy_drop(text)' => { admin => 1, own => q{SELECT idem_policy_drop('%s')} },
	'idem_retention(text)' => { own => q{SELECT idem_retention('%s')} },
	'idem_token_issue(text,text,interval,integer,interval)' => { own => q{SELECT idem_token_issue('p', '%s', max_issues => 3)} },
	'idem_token_consume(text,text,text)' => { own => q{SELECT idem_token_consume(idem_token_issue('p'), 'p')} },
	'idem_token_rotate(text,text,text,interval)' => { own => q{SELECT idem_token_rotate(idem_token_issue('p'), 'p')} },
	'idem_token_status(text,text,text)' => { own => q{SELECT idem_token_status('x', 'p')} },
	'idem_token_rekey()' => { admin => 1, own => q{SELECT idem_token_rekey()} },
	'idem_begin_batch(text,anycompatiblearray,interval,boolean,boolean)' => { own => q{SELECT * FROM idem_begin_batch('%s', '{1, 2}')}, other => q{SELECT * FROM idem_begin_batch('recorder', '{free, done}')} },
	'idem_unsettled(text,integer)' => { own => q{SELECT * FROM idem_unsettled('%s')} },
	'idem_begin(text,anycompatible,interval,jsonb,boolean,boolean)' => { own => q{SELECT * FROM idem_begin('%s', 'b')}, other => q{SELECT * FROM idem_begin('recorder', 'running')} },
	'idem_renew(text,anycompatible,bigint,interval)' => { own => q{SELECT idem_begin('%1$s', 'b'), idem_renew('%1$s', 'b', 1)}, other => q{SELECT idem_renew('recorder', 'running', 1)} },
	'idem_complete(text,anycompatible,bigint,json)' => { own => q{SELECT idem_begin('%1$s', 'b'), idem_complete('%1$s', 'b', 1)}, other => q{SELECT idem_complete('recorder', 'running', 1)} },
	'idem_fail(text,anycompatible,bigint,json,boolean)' => { own => q{SELECT idem_begin('%1$s', 'b'), idem_fail('%1$s', 'b', 1)}, other => q{SELECT idem_fail('recorder', 'running', 1)} },
	'idem_lock(text,interval)' => { own => q{SELECT idem_lock('%s')}, other => q{SELECT idem_lock('recorder free')} },
	'idem_lock_renew(text,bigint,interval)' => { own => q{SELECT idem_lock_renew('%1$s', idem_lock('%1$s'))}, other => q{SELECT idem_lock_renew('recorder held', 1)} },
	'idem_lock_check(text,bigint)' => { own => q{SELECT idem_lock_check('%1$s', idem_lock('%1$s'))}, other => q{SELECT idem_lock_check('recorder held', 1)} },
	'idem_unlock(text,bigint)' => { own => q{SELECT idem_unlock('%1$s', idem_lock('%1$s'))}, other => q{SELECT idem_unlock('recorder held', 1)} },
	'idem_lock_lookup(text)' => { own => q{SELECT idem_lock_lookup('%s')}, other => q{SELECT idem_lock_lookup('recorder held')} },
	'idem_lock_break(text)' => { admin => 1, within => 1, own => q{SELECT idem_lock('%1$s'), idem_lock_break('%1$s')}, other => q{SELECT idem_lock_break('recorder held')} },
	'idem_reassign(name,name)' => { admin => 1, within => 1, own => q{SELECT idem_reassign(current_user, current_user)}, other => q{SELECT idem_reassign('recorder', current_user)} },
	'idem_distribute()' => { admin => 1, gets => '0A000', own => q{SELECT idem_distribute()} },    # there is no citus here
	'idem_stat_counters()' => { admin => 1, own => q{SELECT count(*) FROM idem_stat_counters()} },
	'idem_stat_runs()' => { admin => 1, own => q{SELECT count(*) FROM idem_stat_runs()} },
	'idem_stat_reset()' => { admin => 1, own => q{SELECT idem_stat_reset()} },
	'idem_deduct(regclass,name,numeric,"any")' => { own => q{SELECT idem_deduct('%s.product', 'stock', 1, 1)}, other => q{SELECT idem_deduct('recorder.product', 'stock', 1, 1)} },
	'idem_deduct(regclass,name,numeric,text[])' => { own => q{SELECT idem_deduct('%s.product', 'stock', 1, '1')}, other => q{SELECT idem_deduct('recorder.product', 'stock', 1, '1')} },
	'idem_lock_row(regclass,"any")' => { own => q{SELECT idem_lock_row('%s.product', 1)}, other => q{SELECT idem_lock_row('recorder.product', 1)} },
	'idem_lock_row(regclass,text[])' => { own => q{SELECT idem_lock_row('%s.product', '1')}, other => q{SELECT idem_lock_row('recorder.product', '1')} },
	'idem_insert(anyelement,regclass)' => { own => q{SELECT * FROM idem_insert(ROW(2, 5, 'created', 1)::%s.product)}, other => q{SELECT * FROM idem_insert(ROW(2, 5, 'created', 1)::recorder.product)} },
	'idem_version()' => { own => q{CREATE TRIGGER v BEFORE UPDATE ON %1$s.product FOR EACH ROW EXECUTE FUNCTION idem_version('version'); UPDATE %1$s.product SET stock = 3},
		other => q{CREATE TRIGGER v BEFORE UPDATE ON recorder.product FOR EACH ROW EXECUTE FUNCTION idem_version('version')} },
	'idem_newer()' => { own => q{CREATE TRIGGER n BEFORE UPDATE ON %1$s.product FOR EACH ROW EXECUTE FUNCTION idem_newer('version'); UPDATE %1$s.product SET stock = 3},
		other => q{CREATE TRIGGER n BEFORE UPDATE ON recorder.product FOR EACH ROW EXECUTE FUNCTION idem_newer('version')} },
	'idem_machine(text,text)' => { admin => 1, own => q{SELECT idem_machine('%s', 'a -> b')}, other => q{SELECT idem_machine('orders', 'a -> b')} },
	'idem_machine_graph(text)' => { own => q{SELECT idem_machine_graph('orders')} },
	'idem_verdict(text,text,text)' => { own => q{SELECT idem_verdict('orders', 'created', 'paid')} },
	'idem_state()' => { own => q{CREATE TRIGGER s BEFORE INSERT OR UPDATE ON %1$s.product FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status'); UPDATE %1$s.product SET status = 'paid'},
		other => q{CREATE TRIGGER s BEFORE UPDATE ON recorder.product FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status')} },
	'idem_advance(text,regclass,name,text,"any")' => { own => q{SELECT idem_advance('orders', '%s.product', 'status', 'paid', 1)}, other => q{SELECT idem_advance('orders', 'recorder.product', 'status', 'paid', 1)} },
	'idem_advance(text,regclass,name,text,text[])' => { own => q{SELECT idem_advance('orders', '%s.product', 'status', 'paid', '1')}, other => q{SELECT idem_advance('orders', 'recorder.product', 'status', 'paid', '1')} },
	'idem_stock_add(text,numeric,integer)' => { admin => 1, own => q{SELECT idem_stock_add('%s', 5)}, other => q{SELECT idem_stock_add('item', 5)} },
	'idem_stock_reserve(text,anycompatible,text,numeric,interval,boolean)' => { own => q{SELECT idem_stock_reserve('%s', '1', 'item', 1)}, other => q{SELECT idem_stock_reserve('recorder', 'held', 'item', 1)} },
	'idem_stock_reserve_items(text,anycompatible,text[],numeric[],interval,boolean)' => { own => q{SELECT idem_stock_reserve_items('%s', '1', ARRAY['item'], ARRAY[1])}, other => q{SELECT idem_stock_reserve_items('recorder', 'held', ARRAY['item'], ARRAY[1])} },
	'idem_stock_confirm(text,anycompatible)' => { own => q{SELECT idem_stock_reserve('%1$s', '1', 'item', 1), idem_stock_confirm('%1$s', '1')}, other => q{SELECT idem_stock_confirm('recorder', 'held')} },
	'idem_stock_release(text,anycompatible)' => { own => q{SELECT idem_stock_release('%s', '1')}, other => q{SELECT idem_stock_release('recorder', 'held')} },
	'idem_stock_remove(text,numeric)' => { admin => 1, own => q{SELECT idem_stock_remove('item', 1)}, other => q{SELECT idem_stock_remove('item', 1)} },
	'idem_stock_amend(text,anycompatible,text,numeric,numeric)' => { own => q{SELECT idem_stock_reserve('%1$s', '1', 'item', 1), idem_stock_amend('%1$s', '1', 'item', 2)}, other => q{SELECT idem_stock_amend('recorder', 'held', 'item', 2)} },
	'idem_stock_renew(text,anycompatible,interval)' => { own => q{SELECT idem_stock_reserve('%1$s', '1', 'item', 1), idem_stock_renew('%1$s', '1', '1 day')}, other => q{SELECT idem_stock_renew('recorder', 'held', '1 day')} },
	'idem_stock_lookup(text,anycompatible)' => { own => q{SELECT idem_stock_lookup('%s', '1')}, other => q{SELECT idem_stock_lookup('recorder', 'held')} },
	'idem_stock_available(text)' => { own => q{SELECT idem_stock_available('item')} },
	'idem_stock_expire(integer)' => { own => q{CALL idem_stock_expire()} });

# Every table; nobody but the superuser and, for SELECT, pg_read_all_data has any way in.
my @tables = qw(idem.claim idem.hold idem.lock idem.policy idem.stock idem.token_key idem.token_rate idem.token_spent idem.transition);
my %ways = (
	SELECT => 'SELECT * FROM %s',
	'SELECT column' => 'SELECT count(*) FROM (SELECT tableoid FROM %s) t',
	COPY => 'COPY %s TO STDOUT',
	INSERT => 'INSERT INTO %1$s SELECT * FROM %1$s WHERE false',
	UPDATE => 'UPDATE %s SET %2$s = NULL WHERE false',
	DELETE => 'DELETE FROM %s WHERE false',
	TRUNCATE => 'TRUNCATE %s',
	LOCK => 'LOCK %s',
	'FOR UPDATE' => 'SELECT FROM %s FOR UPDATE',
	INHERIT => 'CREATE TABLE child () INHERITS (%s)',
	TRIGGER => 'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	RULE => 'CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING',
	POLICY => 'CREATE POLICY p ON %s',
	INDEX => 'CREATE INDEX ON %s ((1))',
	STATISTICS => 'CREATE STATISTICS s ON ctid, xmin FROM %s',
	ALTER => 'ALTER TABLE %s ADD mine int',
	OWNER => 'ALTER TABLE %s OWNER TO CURRENT_USER',
	DROP => 'DROP TABLE %s CASCADE',
	VIEW => 'CREATE TEMP VIEW v AS SELECT tableoid FROM %s; SELECT * FROM v',
	REINDEX => 'REINDEX TABLE %s');

$node->safe_psql('postgres', q{
	CREATE ROLE dbowner LOGIN;
	CREATE DATABASE app OWNER dbowner;
	CREATE ROLE super SUPERUSER LOGIN;
	CREATE ROLE recorder LOGIN;
	CREATE ROLE member LOGIN IN ROLE recorder;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE visitor LOGIN;
	CREATE ROLE admin LOGIN;
	CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
});
$node->safe_psql('app', join ';', 'CREATE EXTENSION idem', 'GRANT USAGE ON SCHEMA idem TO visitor',
	"SELECT idem_machine('orders', 'created -> paid -> shipped'), idem_stock_add('item', 100)",
	'CREATE FUNCTION public.echo(json) RETURNS json LANGUAGE sql RETURN $1',
	(map { 'GRANT EXECUTE ON ROUTINE ' . s/VARIADIC //r . ' TO admin' } grep { $functions{$_}{admin} } sort keys %functions),
	map { my $r = $_->[0]; ("CREATE SCHEMA $r AUTHORIZATION $r", "CREATE TABLE $r.product (id int PRIMARY KEY, stock int, status text, version int)", "ALTER TABLE $r.product OWNER TO $r", "INSERT INTO $r.product VALUES (1, 100, 'created', 1)") } @roles);
$node->safe_psql('app', q{
	SELECT idem_claim('recorder', 'done'), idem_respond('recorder', 'done', '{"secret": true}'), idem_claim('recorder', 'unanswered');
	SELECT idem_begin('recorder', 'running', '1 hour');
	SELECT idem_begin('recorder', 'open');
	SELECT idem_fail('recorder', 'open', 1);
	SELECT idem_lock('recorder held', '1 hour'), idem_lock('recorder free');
	SELECT idem_unlock('recorder free', 1);
	SELECT idem_stock_reserve('recorder', 'held', 'item', 1);
	GRANT USAGE ON SCHEMA recorder TO PUBLIC;
}, extra_params => [ '-U', 'recorder' ]);

# the catalog and the expectations name the same things
sub members
{
	my ($class, $as) = @_;
	return $node->safe_psql('app', "SELECT $as FROM pg_depend WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem') AND classid = '$class'::regclass ORDER BY $as COLLATE \"C\"");
}
is(members('pg_proc', 'objid::regprocedure::text'), join("\n", sort keys %functions), 'every function has an expectation here');
is(members('pg_class', 'objid::regclass::text'), join("\n", @tables, 'idem_stat', 'idem_stat_run'), 'every table has an expectation here, and the views are in t/145');

# all that idem holds, to see whether a refusal left anything
sub contents
{
	# the marks of policies rise with each purge
	return $node->safe_psql('app', join ' UNION ALL ', map { "(SELECT '$_' || ' ' || count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' ORDER BY t::text)), '') FROM $_ t)" } (grep { $_ ne 'idem.policy' } @tables), map { "$_->[0].product" } @roles);
}

# what each of these statements comes to for a role: ok, or the SQLSTATE; each is undone unless it commits by itself
sub answers
{
	my ($role, $route, @statements) = @_;
	my $script = "SET client_min_messages = error;\nSET idem.force_sql = $route;\n\\o /dev/null\n";
	for (@statements)
	{
		# several are sent as one, so that the first error is the answer
		my $sql = s/; /\\; /gr;
		$script .= (/^CALL/ ? '' : "BEGIN;\n") . "$sql;\n\\echo said :SQLSTATE\nROLLBACK;\n";
	}
	my (undef, $out) = $node->psql('app', $script, on_error_stop => 0, extra_params => [ '-U', $role ]);
	return map { $_ eq '00000' ? 'ok' : $_ } $out =~ /^said (\w+)$/mg;
}

# its call on records of a role's own
sub own
{
	my ($function, $role) = @_;
	return sprintf($functions{$function}{own} =~ s/%s/%1\$s/gr, $role);
}

# what else one might try
my @more = ('CREATE TABLE idem.mine (i int)', 'CREATE FUNCTION idem.mine() RETURNS int LANGUAGE sql AS $$SELECT 1$$', 'DROP EXTENSION idem', 'ALTER EXTENSION idem UPDATE',
	'ALTER EXTENSION idem ADD SCHEMA recorder', 'DROP SCHEMA idem CASCADE', 'ALTER SCHEMA idem RENAME TO mine', q{GRANT USAGE ON SCHEMA idem TO PUBLIC; SELECT 1 / has_schema_privilege('public', 'idem', 'USAGE')::int},
	'ALTER FUNCTION idem_lock(text, interval) OWNER TO CURRENT_USER', 'ALTER FUNCTION idem_lock(text, interval) RENAME TO mine', 'ALTER FUNCTION idem_lock(text, interval) SECURITY DEFINER', 'DROP FUNCTION idem_lock(text, interval)',
	q{CREATE OR REPLACE FUNCTION public.idem_response(source text, seq anycompatible) RETURNS json LANGUAGE sql AS $$SELECT NULL::json$$}, 'CREATE FUNCTION pg_temp.c() RETURNS trigger LANGUAGE c AS $$idem$$, $$idem_state$$',
	q{SELECT pg_extension_config_dump('idem.claim', 'false')}, q{LOAD '$libdir/idem.so'});
# the first column of each table
my %first = map { $_ => $node->safe_psql('app', "SELECT attname FROM pg_attribute WHERE attrelid = '$_'::regclass AND attnum = 1") } @tables;
my $before = contents();
for my $route (qw(off on))
{
	for (@roles)
	{
		my ($role, $who) = @$_;
		my @checks;    # [ what, statement, wanted ]

		for my $function (sort keys %functions)
		{
			my $f = $functions{$function};
			my $may = $f->{admin} ? $administers{$role} : 1;
			push @checks, [ "own: $function", own($function, $role), $may ? $f->{gets} // 'ok' : '42501' ];
			push @checks, [ "recorder's: $function", $f->{other}, ($f->{within} ? $may && $served{$role} : $f->{admin} ? $may : $served{$role}) ? 'ok' : '42501' ] if $f->{other};
		}
		if ($route eq 'off' && $role ne 'super')
		{
			for my $table (@tables)
			{
				for my $way (sort keys %ways)
				{
					my $reads = $role eq 'reader' && $way =~ /^(?:SELECT|SELECT column|COPY|VIEW)$/;
					my $sql = sprintf($ways{$way}, $table, $first{$table});
					push @checks, [ "$way $table", $sql, $reads ? 'ok' : '42501' ];
				}
				# a warning at most
				push @checks, [ "GRANT $table", "GRANT SELECT ON $table TO PUBLIC; SELECT 1 / has_table_privilege('public', '$table', 'SELECT')::int", '42501 or 22012' ];
			}
			push @checks, map { [ $_, $_, '42501 or 2BP01 or 0A000 or 22012' ] } @more;
		}

		my @got = answers($role, $route, map { $_->[1] } @checks);
		my @bad = map { $checks[$_][2] =~ /\Q$got[$_]\E/ ? () : "$checks[$_][0]: $got[$_], not $checks[$_][2]" } 0 .. $#got;
		is(join("\n", @bad), '', "force_sql $route: $role ($who)");
		is(scalar(@got), scalar(@checks), 'all ' . @checks . ' calls were answered');
	}
	is(contents(), $before, "force_sql $route: nothing was left behind");
}

# Nobody may do what PUBLIC may not: an administrator can take each function away, and give it to some.
$node->safe_psql('app', join ';', map { ("REVOKE ALL ON ROUTINE $_ FROM PUBLIC", "GRANT EXECUTE ON ROUTINE $_ TO visitor") } sort keys %functions);
for (map({ [ $_, '42501' ] } qw(stranger dbowner recorder)), [ 'visitor', 'ok' ])
{
	my ($role, $wanted) = @$_;
	my @names = sort keys %functions;
	my @got = answers($role, 'off', map { own($_, $role) } @names);
	is(join("\n", map { $got[$_] eq ($wanted eq 'ok' ? $functions{ $names[$_] }{gets} // $wanted : $wanted) ? () : "$names[$_]: $got[$_]" } 0 .. $#names), '', "without PUBLIC: $role gets $wanted for each function");
}

$node->stop;
done_testing();
