<?php
// PHP PDO: parameters are untyped; the SQLSTATE is errorInfo[0]
$pdo = new PDO(sprintf('pgsql:host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE')), getenv('PGUSER'), '',
	[PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
echo "version\tPDO of PHP ", PHP_VERSION, "\n";

while (($line = fgets(STDIN)) !== false) {
	$rest = explode("\t", rtrim($line, "\n"));
	$mode = array_shift($rest);
	$sql = array_shift($rest);
	try {
		if ($mode == 'block')
			$pdo->beginTransaction();
		$statement = $pdo->prepare(preg_replace('/\$\d+/', '?', $sql));
		foreach (array_chunk($rest, 2) as $i => [$kind, $value]) {
			if ($kind == 'bool')
				$statement->bindValue($i + 1, $value == 'true', PDO::PARAM_BOOL);
			elseif ($kind == 'int')
				$statement->bindValue($i + 1, (int) $value, PDO::PARAM_INT);
			elseif (str_ends_with($kind, 's'))
				$statement->bindValue($i + 1, '{' . $value . '}');
			else
				$statement->bindValue($i + 1, $value);
		}
		$statement->execute();
		$rows = $statement->columnCount() ? $statement->fetchAll(PDO::FETCH_NUM) : [];
		$shown = fn($cell) => is_bool($cell) ? ($cell ? 'true' : 'false') : (string) $cell;
		echo "ok\t", implode('/', array_map(fn($row) => implode(',', array_map($shown, $row)), $rows)), "\n";
	} catch (PDOException $e) {
		echo "error\t", $e->errorInfo[0] ?? 'client', "\t", preg_replace('/\s+/', ' ', $e->getMessage()), "\n";
	}
	if ($pdo->inTransaction())
		$pdo->rollBack();
}
