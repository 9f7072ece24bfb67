package stats

import "math"

// normalCDF is the probability that a standard normal variable is at most z.
func normalCDF(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

// normalQuantile is the z at which normalCDF is p (0 < p < 1).
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

// studentCDF is the probability that a variable with Student's t distribution is at most t. df is its degrees of freedom (>= 1).
func studentCDF(t, df float64) float64 {
	if math.IsInf(t, 0) {
		return 0.5 + math.Copysign(0.5, t)
	}
	tail := 0.5 * incompleteBeta(df/2, 0.5, df/(df+t*t))
	if t > 0 {
		return 1 - tail
	}
	return tail
}

// studentQuantile is the t at which studentCDF is p (0 < p < 1).
func studentQuantile(p, df float64) float64 {
	if p < 0.5 {
		return -studentQuantile(1-p, df)
	}
	// The distribution is symmetric, so the tail is looked for: 1-p loses no digits where p is close to 1.
	tail := 1 - p
	low, high := 0.0, 1.0
	for 0.5*incompleteBeta(df/2, 0.5, df/(df+high*high)) > tail && high < 1e150 {
		low, high = high, 2*high
	}
	for range 200 {
		middle := low + (high-low)/2
		if middle <= low || middle >= high {
			break
		}
		if 0.5*incompleteBeta(df/2, 0.5, df/(df+middle*middle)) > tail {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// incompleteBeta is the regularized incomplete beta function I_x(a, b), by the continued fraction of NIST DLMF 8.17.22, evaluated
// with the modified Lentz method.
func incompleteBeta(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2): // where the fraction converges slowly, its mirror image converges fast
		return 1 - incompleteBeta(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a

	const tiny = 1e-300
	f, c, d := 1.0, 1.0, 0.0
	for i := range 500 {
		m := float64(i / 2)
		var numerator float64
		switch {
		case i == 0:
			numerator = 1
		case i%2 == 0:
			numerator = m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		default:
			numerator = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		}
		d = 1 + numerator*d
		if math.Abs(d) < tiny {
			d = tiny
		}
		d = 1 / d
		c = 1 + numerator/c
		if math.Abs(c) < tiny {
			c = tiny
		}
		f *= c * d
		if math.Abs(c*d-1) < 1e-15 {
			break
		}
	}
	return front * (f - 1)
}
