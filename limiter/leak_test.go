package limiter

import "testing"

// The names are those of the linker.
func TestFunctionOfAModule(t *testing.T) {
	for _, tt := range []struct {
		module, function string
		want             bool
	}{
		{"example.com/me/app", "example.com/me/app.Run", true},
		{"example.com/me/app", "example.com/me/app.(*Client).Ask.func1", true},
		{"example.com/me/app", "example.com/me/app_test.TestAsk", true},
		{"example.com/me/app", "example.com/me/app/internal/ask.Run", true},
		{"example.com/me/app.v2", "example.com/me/app%2ev2.Run", true},
		{"example.com/me/app.v2", "example.com/me/app.v2/ask.Run", true},
		{"example.com", "example%2ecom.Run", true},
		{"example.com", "example.com/ask.Run", true},
		{"app", "app.Run", true},
		{"example.com/me/app", "example.com/me/app_sdk.Run", false},
		{"example.com/me/app", "example.com/me/app-sdk.Run", false},
		{"example.com/me/app", "example.com/me/app.sdk/ask.Run", false},
		{"example.com/me/app", "example.com/me/apps/ask.Run", false},
	} {
		if got := inModule(tt.function, tt.module); got != tt.want {
			t.Errorf("%s is of the module %s: %t, want %t", tt.function, tt.module, got, tt.want)
		}
	}
}
