// Go lib/pq: parameters are untyped text; the SQLSTATE is Code
package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

func native(kind, text string) interface{} {
	switch kind {
	case "int", "bigint":
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	case "bool":
		return text == "true"
	case "time":
		t, _ := time.Parse(time.RFC3339, text)
		return t
	case "texts", "ints", "numerics":
		return pq.Array(strings.Split(text, ","))
	}
	return text
}

type asker interface {
	Query(query string, args ...interface{}) (*sql.Rows, error)
}

func ask(on asker, query string, params []interface{}) (string, error) {
	rows, err := on.Query(query, params...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var out []string
	columns, _ := rows.Columns()
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		into := make([]interface{}, len(columns))
		row := make([]string, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		for i := range cells {
			row[i] = cells[i].String
		}
		out = append(out, strings.Join(row, ","))
	}
	return strings.Join(out, "/"), rows.Err()
}

func call(db *sql.DB, mode, query string, params []interface{}) (string, error) {
	if mode != "block" {
		return ask(db, query, params)
	}
	tx, err := db.Begin()
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	return ask(tx, query, params)
}

func main() {
	db, err := sql.Open("postgres", "sslmode=disable")
	if err != nil {
		panic(err)
	}
	fmt.Println("version\tlib/pq of Debian")
	in := bufio.NewScanner(os.Stdin)
	space := regexp.MustCompile(`\s+`)
	for in.Scan() {
		line := strings.Split(in.Text(), "\t")
		var params []interface{}
		for i := 2; i+1 < len(line); i += 2 {
			params = append(params, native(line[i], line[i+1]))
		}
		answer, err := call(db, line[0], line[1], params)
		var failed *pq.Error
		if errors.As(err, &failed) {
			fmt.Printf("error\t%s\t%s\n", failed.Code, space.ReplaceAllString(failed.Message, " "))
		} else if err != nil {
			fmt.Printf("error\tclient\t%s\n", space.ReplaceAllString(err.Error(), " "))
		} else {
			fmt.Printf("ok\t%s\n", answer)
		}
	}
}
