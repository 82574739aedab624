"""The services that the saga calls. Each call may come twice, late, or after what undoes it."""


class Stock:
    def reserve(self, db, order, quantity):
        return db.execute("SELECT idem_stock_reserve('order', %s, 'tea', %s::numeric)", (order, quantity)).fetchone()[0]

    def confirm(self, db, order):
        db.execute("SELECT idem_stock_confirm('order', %s)", (order,))
        return True

    def release(self, db, order):
        # before the reserve it leaves a mark, which refuses a reserve that comes late
        db.execute("SELECT idem_stock_release('order', %s)", (order,))
        return True


class Payment:
    def charge(self, db, order, customer, amount):
        with db.transaction():
            if not db.execute("SELECT idem_claim('charge', %s)", (order,)).fetchone()[0]:
                # known: what was answered then; nothing if it was cancelled before it came
                return db.execute("SELECT idem_response('charge', %s)", (order,)).fetchone()[0] is True
            enough = db.execute("SELECT idem_deduct('account', 'balance', %s::integer, VARIADIC ARRAY[%s])", (amount, customer)).fetchone()[0]
            if enough:
                db.execute('INSERT INTO ledger VALUES (%s, %s)', (order, amount))
            db.execute("SELECT idem_respond('charge', %s, to_json(%s::boolean))", (order, enough))
            return enough

    def refund(self, db, order, customer, amount):
        with db.transaction():
            # either the charge never comes to be, or it is done, and then it is given back once
            status = db.execute("SELECT idem_cancel('charge', %s)", (order,)).fetchone()[0]
            charged = status == 'done' and db.execute("SELECT idem_response('charge', %s)", (order,)).fetchone()[0]
            if charged and db.execute("SELECT idem_claim('refund', %s)", (order,)).fetchone()[0]:
                db.execute('UPDATE account SET balance = balance + %s WHERE name = %s', (amount, customer))
                db.execute('INSERT INTO ledger VALUES (%s, %s)', (order, -amount))
        return True
