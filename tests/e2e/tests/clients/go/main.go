// Asks as Go programs do, Grafana among them: with pgx in each of its modes, and with lib/pq. Prints what came as JSON.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

const hours = `SELECT channel, hour, edits, average FROM hourly WHERE channel = $1 AND edits >= $2 AND hour >= $3 ORDER BY hour`

var (
	channels = []string{"#en.wikipedia", "#de.wikipedia"}
	long     = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	modes    = map[string]pgx.QueryExecMode{
		"cache_statement": pgx.QueryExecModeCacheStatement,
		"cache_describe":  pgx.QueryExecModeCacheDescribe,
		"describe_exec":   pgx.QueryExecModeDescribeExec,
		"exec":            pgx.QueryExecModeExec,
		"simple_protocol": pgx.QueryExecModeSimpleProtocol,
	}
)

type answers struct {
	Hours   [][]any   `json:"hours"`
	Totals  [][]any   `json:"totals"`
	Any     int64     `json:"any"`
	Null    *int64    `json:"null"`
	Refused string    `json:"refused"`
	Grafana [][][]any `json:"grafana"`
	Panels  [][][]any `json:"panels"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// What Grafana asks, one statement at a time, without parameters.
func statements(file string) []string {
	var all []string
	for _, statement := range strings.Split(string(must(os.ReadFile(file))), ";\n") {
		if strings.TrimSpace(statement) != "" {
			all = append(all, statement)
		}
	}
	return all
}

func main() {
	ctx := context.Background()
	port, atLeast, catalog, panels := os.Args[1], os.Args[2], statements(os.Args[3]), statements(os.Args[4])
	options := fmt.Sprintf("-c anabranch.require=exact -c anabranch.at_least=%s", atLeast)
	address := fmt.Sprintf("host=127.0.0.1 port=%s user=tester dbname=anabranch sslmode=disable options='%s'", port, options)
	found := map[string]answers{}
	for name, mode := range modes {
		config := must(pgx.ParseConfig(address))
		config.DefaultQueryExecMode = mode
		connection := must(pgx.ConnectConfig(ctx, config))
		found[name] = withPgx(ctx, connection, catalog, panels)
		if err := connection.Close(ctx); err != nil {
			panic(err)
		}
	}
	database := must(sql.Open("postgres", address))
	defer database.Close()
	found["lib_pq"] = withPq(database, catalog, panels)
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}

func withPgx(ctx context.Context, connection *pgx.Conn, catalog, panels []string) answers {
	ask := func(query string, parameters ...any) [][]any {
		rows, err := connection.Query(ctx, query, parameters...)
		collected, err := pgx.CollectRows(must(rows, err), func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			panic(fmt.Errorf("%s: %w", query, err))
		}
		return collected
	}
	var got answers
	// Twice: what was prepared or described is used again.
	for range 2 {
		got.Hours = nil
		for _, channel := range channels {
			got.Hours = append(got.Hours, ask(hours, channel, int64(10), long)...)
		}
	}
	got.Totals = ask("SELECT edits, added::bigint, editors FROM totals")
	counted, values := "SELECT count(*) FROM hourly WHERE channel = ANY($1)", []any{channels}
	if connection.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		// The array would be a text in the query.
		counted, values = "SELECT count(*) FROM hourly WHERE channel IN ($1, $2)", []any{channels[0], channels[1]}
	}
	if err := connection.QueryRow(ctx, counted, values...).Scan(&got.Any); err != nil {
		panic(err)
	}
	if err := connection.QueryRow(ctx, "SELECT max(edits) FROM hourly WHERE channel = $1", "no such").Scan(&got.Null); err != nil {
		panic(err)
	}
	var refused *pgconn.PgError
	if _, err := connection.Exec(ctx, "SELECT nothing FROM totals"); errors.As(err, &refused) {
		got.Refused = refused.Code
	}
	// A failed statement ends nothing but itself; a transaction is one of the client's.
	transaction := must(connection.Begin(ctx))
	must(transaction.Exec(ctx, "SET LOCAL anabranch.timeout = '30s'"))
	if err := transaction.Commit(ctx); err != nil {
		panic(err)
	}
	for _, query := range catalog {
		got.Grafana = append(got.Grafana, ask(query))
	}
	for _, query := range panels {
		got.Panels = append(got.Panels, ask(query))
	}
	return got
}

func withPq(database *sql.DB, catalog, panels []string) answers {
	collect := func(rows *sql.Rows, err error) [][]any {
		defer must(rows, err).Close()
		all := [][]any{}
		columns := must(rows.ColumnTypes())
		for rows.Next() {
			row, cells := make([]any, len(columns)), make([]any, len(columns))
			for index := range row {
				cells[index] = &row[index]
			}
			if err := rows.Scan(cells...); err != nil {
				panic(err)
			}
			for index, value := range row {
				if bytes, is := value.([]byte); is {
					row[index] = string(bytes)
				}
			}
			all = append(all, row)
		}
		if err := rows.Err(); err != nil {
			panic(err)
		}
		return all
	}
	var got answers
	prepared := must(database.Prepare(hours))
	defer prepared.Close()
	for _, channel := range channels {
		got.Hours = append(got.Hours, collect(prepared.Query(channel, 10, long))...)
	}
	got.Totals = collect(database.Query("SELECT edits, added::bigint, editors FROM totals"))
	any := database.QueryRow("SELECT count(*) FROM hourly WHERE channel = ANY($1)", pq.Array(channels))
	if err := any.Scan(&got.Any); err != nil {
		panic(err)
	}
	if err := database.QueryRow("SELECT max(edits) FROM hourly WHERE channel = $1", "no such").Scan(&got.Null); err != nil {
		panic(err)
	}
	var refused *pq.Error
	if _, err := database.Exec("SELECT nothing FROM totals"); errors.As(err, &refused) {
		got.Refused = string(refused.Code)
	}
	for _, query := range catalog {
		got.Grafana = append(got.Grafana, collect(database.Query(query)))
	}
	for _, query := range panels {
		got.Panels = append(got.Panels, collect(database.Query(query)))
	}
	return got
}
