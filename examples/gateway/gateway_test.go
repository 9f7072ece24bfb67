// Package gateway_test has SDKs for Go call the gateway, with their default settings but for the base URL.
package gateway_test

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	gopenai "github.com/sashabaranov/go-openai"
)

// start builds the gateway, runs it in front of its demonstration, and returns its address.
func start(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "gateway")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = "../../gateway"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for s := bufio.NewScanner(out); s.Scan(); {
		if _, rest, ok := strings.Cut(s.Text(), "curl "); ok {
			addr, _, _ := strings.Cut(strings.TrimPrefix(rest, "http://"), "/")
			return "http://" + addr
		}
	}
	t.Fatal("the gateway says no address")
	return ""
}

func TestSDKs(t *testing.T) {
	base := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	t.Run("openai-go", func(t *testing.T) {
		c := openai.NewClient(option.WithBaseURL(base+"/v1"), option.WithAPIKey("sk-test"))
		p := openai.ChatCompletionNewParams{Model: "demo", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")}}
		a, err := c.Chat.Completions.New(ctx, p)
		if err != nil || a.Choices[0].Message.Content == "" {
			t.Errorf("%v, %v", a, err)
		}
		s := c.Chat.Completions.NewStreaming(ctx, p)
		text := ""
		for s.Next() {
			for _, choice := range s.Current().Choices {
				text += choice.Delta.Content
			}
		}
		if s.Err() != nil || text == "" {
			t.Errorf("a stream: %q, %v", text, s.Err())
		}
	})
	t.Run("anthropic-sdk-go", func(t *testing.T) {
		c := anthropic.NewClient(anthropicoption.WithBaseURL(base), anthropicoption.WithAPIKey("sk-test"))
		p := anthropic.MessageNewParams{Model: "demo", MaxTokens: 20, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))}}
		a, err := c.Messages.New(ctx, p)
		if err != nil || a.Content[0].Text == "" {
			t.Errorf("%v, %v", a, err)
		}
		s := c.Messages.NewStreaming(ctx, p)
		events := 0
		for s.Next() {
			events++
		}
		if s.Err() != nil || events < 3 {
			t.Errorf("a stream: %d events, %v", events, s.Err())
		}
	})
	t.Run("go-openai", func(t *testing.T) {
		cfg := gopenai.DefaultConfig("sk-test")
		cfg.BaseURL = base + "/v1"
		a, err := gopenai.NewClientWithConfig(cfg).CreateChatCompletion(ctx, gopenai.ChatCompletionRequest{
			Model: "demo", Messages: []gopenai.ChatCompletionMessage{{Role: "user", Content: "hello"}},
		})
		if err != nil || a.Choices[0].Message.Content == "" {
			t.Errorf("%v, %v", a, err)
		}
	})
}
