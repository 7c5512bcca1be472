package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckCommand asks a running `up`, for containers that have neither curl nor a shell.
func healthcheckCommand() *cobra.Command {
	var f common
	var listen string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask a running `up` whether it is ready; exit code 1 when it is not, or does not answer",
		Example: "  corastream healthcheck\n  corastream healthcheck --listen 127.0.0.1:8642", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := f.load()
			if err != nil {
				return err
			}
			scheme := "http"
			if cfg.HTTP.TLSCert != "" {
				scheme = "https"
			}
			if listen == "" {
				listen = cfg.HTTP.Listen
			}
			host, port, err := net.SplitHostPort(listen)
			if err != nil {
				return fmt.Errorf("http.listen: %w (fix: write host:port)", err)
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			return ready(cmd.Context(), scheme+"://"+net.JoinHostPort(host, port)+"/readyz", cmd.OutOrStdout())
		},
	}
	f.add(c)
	c.Flags().StringVar(&listen, "listen", "", "its HTTP address (default: http.listen of the configuration)")
	return c
}

func ready(ctx context.Context, url string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// The certificate is for the service's name, and this asks the machine it runs on.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // only a status is read
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not running: %w (fix: start `corastream up`, or name its address with --listen)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if json.Valid(body) {
		fmt.Fprintf(w, "%s\n", body)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}
