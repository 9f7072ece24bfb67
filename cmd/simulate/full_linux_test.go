package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// On a full disk nothing that was there is lost, and the table is.
func TestFullDisk(t *testing.T) {
	dir := workdir(t)
	small := filepath.Join(dir, "tmpfs")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("a small file system cannot be mounted (it needs root): %v", err)
	}
	defer syscall.Unmount(small, 0)
	old := filepath.Join(small, "report.html")
	if err := os.WriteFile(old, []byte("of the last run"), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := in(t, dir, "", "run", "--seeds", "3", "--out", small, "--events", filepath.Join(small, "events.jsonl"), "small.toml")
	if code != exitInternal || !strings.Contains(stdout, "> ours") || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "--out") {
		t.Errorf("exit code %d, stderr %s, stdout %s", code, stderr, stdout)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != "of the last run" {
		t.Errorf("the report of the last run is now %.40q, %v", text, err)
	}
	// What is there is complete: no file was cut off, and no rest of one is left.
	filepath.WalkDir(small, func(path string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
}
