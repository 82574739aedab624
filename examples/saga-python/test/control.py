"""The control: the services as they are usually written: look by the order's number whether it was done, and do it if not."""


class Stock:
    def reserve(self, db, order, quantity):
        with db.transaction():
            known = db.execute('SELECT status FROM reservation WHERE order_id = %s', (order,)).fetchone()
            if known:
                return known[0] != 'released'
            db.execute('UPDATE shelf SET quantity = quantity - %s', (quantity,))
            db.execute("INSERT INTO reservation VALUES (%s, %s, 'held')", (order, quantity))
            return True

    def confirm(self, db, order):
        db.execute("UPDATE reservation SET status = 'confirmed' WHERE order_id = %s AND status = 'held'", (order,))
        return True

    def release(self, db, order):
        with db.transaction():
            for quantity, in db.execute("SELECT quantity FROM reservation WHERE order_id = %s AND status = 'held'", (order,)).fetchall():
                db.execute('UPDATE shelf SET quantity = quantity + %s', (quantity,))
            db.execute("UPDATE reservation SET status = 'released' WHERE order_id = %s AND status = 'held'", (order,))
        return True


class Payment:
    def charge(self, db, order, customer, amount):
        with db.transaction():
            if db.execute('SELECT FROM ledger WHERE order_id = %s AND amount > 0', (order,)).fetchone() is None:
                if db.execute('UPDATE account SET balance = balance - %s WHERE name = %s AND balance >= %s', (amount, customer, amount)).rowcount == 0:
                    return False
                db.execute('INSERT INTO ledger VALUES (%s, %s)', (order, amount))
            return True

    def refund(self, db, order, customer, amount):
        with db.transaction():
            rows = db.execute('SELECT amount FROM ledger WHERE order_id = %s', (order,)).fetchall()
            if rows and all(charged > 0 for charged, in rows):
                db.execute('UPDATE account SET balance = balance + %s WHERE name = %s', (amount, customer))
                db.execute('INSERT INTO ledger VALUES (%s, %s)', (order, -amount))
        return True
