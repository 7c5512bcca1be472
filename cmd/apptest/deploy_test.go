//go:build app

package apptest

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const deploy = "../../docs/deploy/"

// TestDashboardAndAlertsAskForMetricsThereAre: every series in the Grafana dashboard and the alert rules is one that a running `up`
// gives (or one that only events bring about).
func TestDashboardAndAlertsAskForMetricsThereAre(t *testing.T) {
	h := newHome(t, "", noLLM)
	p := h.up(t)
	url := p.url(t)
	eventually(t, "the first look at the partitions", func() bool { return seriesOf(url, "corastream_lag_events{") })
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	have := map[string]bool{"up": true}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 3 && f[1] == "TYPE" {
			have[f[2]] = true
			if f[3] == "histogram" {
				have[f[2]+"_bucket"] = true
			}
		}
	}
	if !have["corastream_events_total"] || !have["corastream_freshness_seconds_bucket"] {
		t.Fatalf("not the metrics of `up`: %v", have)
	}
	// Labelled series appear with their first value.
	for _, later := range []string{
		"corastream_dead_letters_total", "corastream_running_auc", "corastream_http_refused_total", "corastream_http_request_seconds_bucket",
		"corastream_weights_cache_hits", "corastream_weights_cache_misses",
	} {
		have[later] = true
	}
	found := 0
	name := regexp.MustCompile(`\b(corastream_[a-z_]+|process_[a-z_]+|go_[a-z_]+)\b`)
	for _, file := range []string{"grafana.json", "alerts.yaml"} {
		b, err := os.ReadFile(deploy + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllString(string(b), -1) {
			found++
			if !have[m] && !strings.HasSuffix(m, "_") {
				t.Errorf("%s asks for %s, which nothing gives", file, m)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d series found", found)
	}
}

// seriesOf says whether /metrics has a line that begins so.
func seriesOf(url, begin string) bool {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), begin) {
			return true
		}
	}
	return false
}

// TestCompletionScriptsParse in the shells that are installed, and offers commands and their words.
func TestCompletionScriptsParse(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := ok(t, "completion", shell).stdout
		if !strings.Contains(script, "corastream") {
			t.Errorf("%s: %d bytes", shell, len(script))
		}
		if path, err := exec.LookPath(shell); err == nil && shell != "powershell" {
			if out, err := exec.Command(path, "-n", write(t, "completion."+shell, script)).CombinedOutput(); err != nil {
				t.Errorf("%s -n: %v: %s", shell, err, out)
			}
		}
	}
	if out := ok(t, "__complete", "val").stdout; !strings.Contains(out, "validate") {
		t.Errorf("completion of val: %s", out)
	}
	if r := call(t, "completion", "tcsh"); r.code != 2 {
		t.Errorf("an unknown shell: exit %d", r.code)
	}
}

// TestHealthcheckAsksARunningUp.
func TestHealthcheckAsksARunningUp(t *testing.T) {
	h := newHome(t, "", noLLM)
	p := h.up(t)
	address := strings.TrimPrefix(p.url(t), "http://")
	eventually(t, "readiness", func() bool { return call(t, "healthcheck", "--listen", address).code == 0 })
	p.kill()
	if r := call(t, "healthcheck", "--listen", address); r.code != 1 || !strings.Contains(r.stderr, "not running") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestDeployConfigurationsWantAToken: the configurations for containers listen to the network, so they load with a token from the
// environment alone.
func TestDeployConfigurationsWantAToken(t *testing.T) {
	for _, file := range []string{"corastream-compose.yaml", "corastream-container.yaml"} {
		cmd := exec.Command(program, "config", "check", deploy+file)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: open to the network without a token: %s", file, out)
		}
		cmd = exec.Command(program, "config", "check", deploy+file)
		cmd.Env = append(os.Environ(), "CORASTREAM_HTTP_TOKEN=0123456789abcdef0123")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s with a token: %v: %s", file, err, out)
		}
	}
}
